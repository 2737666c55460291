// Whether the server asks who is calling, and whether it knows this browser: one store for the whole page.

import { useSyncExternalStore } from "react";
import { forgotten, getSession, logOut } from "./api/client";
import type { SessionOut } from "./api/schema";

/** `asking` until the server has said; `open` when it asks nobody. */
export type Session = "asking" | "open" | "known" | "unknown";

let session: Session = "asking";
let hasPassword = true;
const listeners = new Set<() => void>();

function become(next: Session): void {
  if (next === session) return;
  session = next;
  for (const listener of listeners) listener();
}

const nameOf = (told: SessionOut): Session => (told.login ? (told.known ? "known" : "unknown") : "open");

/** Ask the server how this browser stands. While it is away the page is shown, which says so. */
export async function askSession(): Promise<void> {
  try {
    const told = await getSession();
    hasPassword = told.password;
    become(nameOf(told));
  } catch {
    become("open");
  }
}

/** The password was right. */
export const loggedIn = (): void => become("known");

/** End the session, here and on the server. */
export async function endSession(): Promise<void> {
  await logOut();
  become("unknown");
}

forgotten.tell = () => become("unknown");

export function useSession(): { session: Session; hasPassword: boolean } {
  const subscribe = (listener: () => void): (() => void) => {
    listeners.add(listener);
    return () => listeners.delete(listener);
  };
  return { session: useSyncExternalStore(subscribe, () => session), hasPassword };
}
