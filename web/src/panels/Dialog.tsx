// A modal dialog: the browser's own, which keeps the focus inside and gives it back.

import { useLayoutEffect, useRef } from "react";

export interface DialogProps {
  title: React.ReactNode;
  id: string; // of the heading
  lead?: React.ReactNode; // before the heading
  detail?: React.ReactNode; // under the heading
  tools?: React.ReactNode; // beside Close
  className?: string;
  onClose: () => void;
  onKeyDown?: (event: React.KeyboardEvent) => void;
  children: React.ReactNode;
}

export function Dialog(props: DialogProps): React.JSX.Element {
  const dialog = useRef<HTMLDialogElement>(null);
  const heading = useRef<HTMLHeadingElement>(null);
  useLayoutEffect(() => {
    const element = dialog.current;
    element?.showModal();
    heading.current?.focus();
    return () => element?.close(); // while it is still in the page, so that the focus goes back
  }, []);
  return (
    <dialog
      ref={dialog}
      className={props.className}
      aria-labelledby={props.id}
      onClose={() => !dialog.current?.open && props.onClose()}
      onKeyDown={props.onKeyDown}
      onMouseDown={(event) => event.target === dialog.current && dialog.current.close()}
    >
      <header className="dialog-head">
        {props.lead}
        <div className="dialog-title">
          <h2 id={props.id} ref={heading} tabIndex={-1}>
            {props.title}
          </h2>
          {props.detail}
        </div>
        <div className="right">
          {props.tools}
          <button type="button" className="icon" aria-label="Close" onClick={() => dialog.current?.close()}>
            <svg width="14" height="14" viewBox="0 0 14 14" stroke="currentColor" strokeWidth="1.7" aria-hidden="true">
              <path d="m2 2 10 10M12 2 2 12" />
            </svg>
          </button>
        </div>
      </header>
      {props.children}
    </dialog>
  );
}

/** Whether a key belongs to the field it was pressed in. */
export function isTyping(target: EventTarget): boolean {
  return target instanceof HTMLElement && target.closest("input, textarea, select") !== null;
}
