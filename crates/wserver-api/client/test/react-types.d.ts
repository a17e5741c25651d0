// So much of React's types as the hooks use.
export function useEffect(run: () => void | (() => void), on?: unknown[]): void;
export function useRef<T>(first: T): { current: T };
export function useSyncExternalStore<T>(subscribe: (changed: () => void) => () => void, now: () => T, onServer?: () => T): T;
