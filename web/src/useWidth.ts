// The width of an element in CSS pixels, as it changes.

import { useLayoutEffect, useRef, useState } from "react";

export function useWidth<T extends Element>(first: number): [React.RefObject<T | null>, number] {
  const element = useRef<T>(null);
  const [width, setWidth] = useState(first);
  useLayoutEffect(() => {
    if (!element.current) return undefined;
    setWidth(Math.round(element.current.getBoundingClientRect().width) || first);
    const observer = new ResizeObserver(([entry]) => entry && setWidth(Math.round(entry.contentRect.width) || first));
    observer.observe(element.current);
    return () => observer.disconnect();
  }, [first]);
  return [element, width];
}
