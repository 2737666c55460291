// The button that ends the session; where nobody is asked who they are, there is none.

import { endSession, useSession } from "../session";

export function LogOut(props: { className: string }): React.JSX.Element | null {
  const { session } = useSession();
  if (session !== "known") return null;
  return (
    <button type="button" className={props.className} onClick={() => void endSession().catch(() => undefined)}>
      Log out
    </button>
  );
}
