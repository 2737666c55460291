// Copying a text; where the clipboard is not allowed, the text stands there selected.

import { useEffect, useRef, useState } from "react";

export interface Copying {
  said: "" | "copied" | "refused";
  copy: () => void;
}

const SHOWN_MS = 2500;

export function useCopy(text: string): Copying {
  const [said, setSaid] = useState<Copying["said"]>("");
  useEffect(() => setSaid(""), [text]);
  useEffect(() => {
    if (said !== "copied") return undefined;
    const timer = setTimeout(() => setSaid(""), SHOWN_MS);
    return () => clearTimeout(timer);
  }, [said]);
  const copy = (): void => {
    // there is no clipboard at all on a page that came over http from another machine
    const asked = (navigator.clipboard as Clipboard | undefined)?.writeText(text) ?? Promise.reject(new Error("none"));
    asked.then(() => setSaid("copied")).catch(() => setSaid("refused"));
  };
  return { said, copy };
}

/** Shown when the clipboard was refused. */
export function CopyByHand(props: { text: string; rows: number }): React.JSX.Element {
  const area = useRef<HTMLTextAreaElement>(null);
  useEffect(() => area.current?.select(), []);
  return (
    <label className="by-hand">
      <span>This page may not use the clipboard. The text is selected: copy it with Ctrl+C.</span>
      <textarea ref={area} readOnly rows={props.rows} value={props.text} />
    </label>
  );
}
