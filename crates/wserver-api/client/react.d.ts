import type { About, Events, Server, Status } from "./wserver.js";

/** Calls `handler`, always the newest one, with each message of `event`. */
export function useEvent<E extends { [event in keyof E]: string } = Events, K extends keyof E & string = keyof E & string>(
  server: Server<E>,
  event: K,
  handler: (message: E[K], about: About) => unknown,
): void;

/** Where the client stands. */
export function useStatus(server: Server<any>): Status;
