// wserver for React: hooks around a client that is made outside of it.

import { useEffect, useRef, useSyncExternalStore } from "react";

/**
 * Calls `handler`, always the newest one, with each message of `event`.
 * @param {import("./wserver.d.ts").Server<any>} server
 * @param {string} event
 * @param {(message: string, about: import("./wserver.d.ts").About) => unknown} handler
 */
export function useEvent(server, event, handler) {
  const newest = useRef(handler);
  useEffect(() => {
    newest.current = handler;
  });
  useEffect(
    () => server.on(event, (message, about) => newest.current(message, about)),
    [server, event],
  );
}

/**
 * Where the client stands.
 * @param {import("./wserver.d.ts").Server<any>} server
 */
export function useStatus(server) {
  return useSyncExternalStore(
    (changed) => server.onStatus(changed),
    () => server.status,
    () => server.status,
  );
}
