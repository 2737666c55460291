import { Component, StrictMode, type ReactNode } from "react";
import { createRoot } from "react-dom/client";
import { App } from "./app";
import { Login } from "./panels/Login";
import { askSession, useSession } from "./session";
import "./styles.css";

/** Says what went wrong instead of showing nothing; a part that cannot be loaded after an update is one such thing. */
class Boundary extends Component<{ children: ReactNode }, { problem: string | null }> {
  override state = { problem: null };

  static getDerivedStateFromError(error: unknown): { problem: string } {
    return { problem: error instanceof Error ? error.message : String(error) };
  }

  override render(): ReactNode {
    if (this.state.problem === null) return this.props.children;
    return (
      <main className="over" role="alert">
        <b>The page made a mistake</b>
        <span>{this.state.problem}</span>
        <button type="button" className="btn" onClick={() => location.reload()}>
          Load it again
        </button>
      </main>
    );
  }
}

/** The page, or the login where the server asks for one. What was shown is in the address, and comes back with the page. */
function Entrance(): ReactNode {
  const { session, hasPassword } = useSession();
  if (session === "asking") return null;
  return session === "unknown" ? <Login hasPassword={hasPassword} /> : <App />;
}

void askSession();
const root = document.getElementById("root");
if (root) {
  createRoot(root).render(
    <StrictMode>
      <Boundary>
        <Entrance />
      </Boundary>
    </StrictMode>,
  );
}
