// The button that ends the session; where nobody is asked who they are, there is none.

import { endSession, useSession } from "../session";

export function LogOut(props: { className: string }): React.JSX.Element | null {
  const { session } = useSession();
  if (session !== "known") return null;
  return (
    <button
      type="button"
      className={props.className}
      aria-label="Log out"
      title="Log out"
      onClick={() => void endSession().catch(() => undefined)} // where the server is away, the page says so
    >
      <svg width="15" height="15" viewBox="0 0 16 16" fill="none" stroke="currentColor" strokeWidth="1.6" aria-hidden="true">
        <path d="M6.5 2.5H3v11h3.5M10 4.8 13.2 8 10 11.2M13 8H6.5" />
      </svg>
    </button>
  );
}
