// The keyboard shortcuts.

import { useEffect, useRef } from "react";

const KEYS: readonly [string, string][] = [
  ["1 · 6 · 2", "Window of 1, 6 or 24 hours"],
  ["Space", "Pause and resume"],
  ["F", "Fit limits or fit all"],
  ["T", "Theme: system, light, dark"],
  ["?", "This list"],
  ["← →", "On the chart: point by point (Shift: ten). In a violation: newer, older"],
  ["N · P", "On the chart: next and previous violation"],
  ["Enter", "On the chart: open the violation at this point"],
  ["Esc", "Close"],
];

export function Help(props: { onClose: () => void }): React.JSX.Element {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    const element = dialog.current;
    element?.showModal();
    return () => element?.close();
  }, []);
  return (
    <dialog ref={dialog} className="help" aria-labelledby="help-title" onClose={props.onClose}>
      <header className="dialog-head">
        <h2 id="help-title">Keyboard shortcuts</h2>
        <div className="right">
          <button type="button" className="btn" onClick={() => dialog.current?.close()}>
            Close
          </button>
        </div>
      </header>
      <dl className="keys">
        {KEYS.map(([key, meaning]) => (
          <div key={key}>
            <dt>
              <kbd>{key}</kbd>
            </dt>
            <dd>{meaning}</dd>
          </div>
        ))}
      </dl>
    </dialog>
  );
}
