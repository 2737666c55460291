// Panels that are drawn again only when what they read of the state has changed.

import { memo, type ComponentType } from "react";
import type { State } from "../state";

const same = (a: readonly unknown[], b: readonly unknown[]): boolean => a.length === b.length && a.every((one, i) => Object.is(one, b[i]));

/** The panel, drawn again when `read` gives other values, or another of its properties is another. */
export function reading<P extends { state: State }>(
  Panel: ComponentType<P>,
  read: (state: State) => readonly unknown[],
): React.MemoExoticComponent<ComponentType<P>> {
  return memo(Panel, (before, now) => {
    const { state: old, ...others } = before;
    const { state: current, ...more } = now;
    return same(Object.values(others), Object.values(more)) && same(read(old), read(current));
  });
}
