// What is shown to a browser that the server does not know: one field, and what is wrong.

import { useEffect, useId, useRef, useState } from "react";
import { logIn } from "../api/client";
import { loggedIn } from "../session";
import { useTheme } from "../theme";
import { Field, useSending } from "./forms";
import { Brand } from "./icons";

export function Login(props: { hasPassword: boolean }): React.JSX.Element {
  const title = useId();
  const [password, setPassword] = useState("");
  const { busy, problem, send } = useSending();
  useTheme();
  const form = useRef<HTMLFormElement>(null);
  useEffect(() => form.current?.querySelector<HTMLInputElement>("input[type=password]")?.focus(), [problem]);
  const submit = (): void =>
    send(async () => {
      await logIn(password);
      loggedIn();
    });
  return (
    <main className="login" aria-labelledby={title}>
      <form
        ref={form}
        className="login-card"
        onSubmit={(event) => {
          event.preventDefault();
          submit();
        }}
      >
        <div className="brand">
          <Brand />
          <h1 id={title}>LLMscope</h1>
        </div>
        {props.hasPassword ? (
          <>
            <input className="sr" type="text" name="username" autoComplete="username" value="llmscope" readOnly tabIndex={-1} aria-hidden="true" />
            <Field
              label="Password"
              type="password"
              name="password"
              autoComplete="current-password"
              required
              maxLength={1000}
              value={password}
              aria-invalid={problem !== ""}
              onChange={(event) => setPassword(event.target.value)}
            />
            <button type="submit" className="btn primary" disabled={busy}>
              {busy ? "Logging in" : "Log in"}
            </button>
            <p className="problem" role="alert">
              {problem}
            </p>
          </>
        ) : (
          <p>
            This server takes tokens only. For a login on this page, start it with <code>LLMSCOPE_PASSWORD</code>.
          </p>
        )}
      </form>
    </main>
  );
}
