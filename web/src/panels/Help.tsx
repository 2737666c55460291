// The keyboard shortcuts, by where they work.

import { Dialog } from "./Dialog";

const GROUPS: readonly { title: string; keys: readonly (readonly [string, string])[] }[] = [
  {
    title: "Everywhere",
    keys: [
      ["1 · 6 · 2", "The last 1, 6 or 24 hours"],
      ["7 · 3", "The last 7 or 30 days"],
      ["Space", "Pause and resume"],
      ["F", "Fit limits or fit all"],
      ["L", "Logarithmic or linear axis"],
      ["O", "Overview of every model"],
      ["/", "Search the log"],
      ["T", "Theme: system, light, dark"],
      ["?", "This list"],
    ],
  },
  {
    title: "On the chart",
    keys: [
      ["← →", "Point by point"],
      ["Shift ← →", "Ten points at a time"],
      ["N · P", "Next and previous violation"],
      ["Enter", "Open the violation at this point"],
      ["+ · −", "Zoom in and out"],
      ["[ · ]", "Earlier and later"],
      ["0", "The whole window"],
    ],
  },
  {
    title: "In the log",
    keys: [
      ["↑ ↓", "Row by row"],
      ["Enter", "Open the violation"],
      ["X", "Select the row"],
    ],
  },
  {
    title: "In a violation",
    keys: [
      ["← →", "Newer and older; in its chart, point by point"],
      ["Esc", "Close a form, then the violation"],
    ],
  },
];

export function Help(props: { onClose: () => void }): React.JSX.Element {
  return (
    <Dialog id="help-title" title="Keyboard shortcuts" className="help" onClose={props.onClose}>
      <div className="keys" tabIndex={0} role="region" aria-label="Shortcuts">
        {GROUPS.map(({ title, keys }) => (
          <section key={title}>
            <h3>{title}</h3>
            <dl>
              {keys.map(([key, meaning]) => (
                <div key={key}>
                  <dt>
                    <kbd>{key}</kbd>
                  </dt>
                  <dd>{meaning}</dd>
                </div>
              ))}
            </dl>
          </section>
        ))}
      </div>
    </Dialog>
  );
}
