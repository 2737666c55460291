// The theme: what the system says, or what was chosen here and kept.

import { useEffect, useState } from "react";

export type Theme = "system" | "light" | "dark";
const NEXT: Record<Theme, Theme> = { system: "light", light: "dark", dark: "system" };

/** The chosen theme, the one shown, and how to go to the next. */
export function useTheme(): { chosen: Theme; shown: "light" | "dark"; next: () => void } {
  const [chosen, setChosen] = useState<Theme>(() => (localStorage.getItem("llmscope.theme") as Theme | null) ?? "system");
  const [systemDark, setSystemDark] = useState(() => matchMedia("(prefers-color-scheme: dark)").matches);
  useEffect(() => {
    const media = matchMedia("(prefers-color-scheme: dark)");
    const changed = (): void => setSystemDark(media.matches);
    media.addEventListener("change", changed);
    return () => media.removeEventListener("change", changed);
  }, []);
  const shown = chosen === "dark" || (chosen === "system" && systemDark) ? "dark" : "light";
  document.documentElement.dataset.theme = shown;
  const next = (): void => {
    localStorage.setItem("llmscope.theme", NEXT[chosen]);
    setChosen(NEXT[chosen]);
  };
  return { chosen, shown, next };
}
