/** Where the client stands. Only `open` means that messages arrive. */
export type Status = "connecting" | "open" | "waiting" | "stopped";

/** What went wrong, for a developer and for a program. */
export interface Problem {
  /**
   * A word, or a close code from 4500 on. From the server: `not_permitted`, `too_many_events`,
   * `name_too_long` (of one event), `token_missing`, `token_refused`, `token_expired`,
   * `other_user`, `busy`, `draining`, `malformed`, `unknown_request`. From the client: `no_token`
   * (the provider failed), `old_server`, `never_open`, `unregistered`, `gap` (without a listener
   * for gaps).
   */
  code: string | number;
  /** A sentence. */
  detail: string;
  /** The event concerned, if it is one. */
  event?: string;
}

/** What is known of a message beside its text. */
export interface About {
  event: string;
  /** The id of the push, as the publisher, the log and `explain` call it. */
  id: string;
}

/**
 * Gives a token. It is asked at every attempt and before a token expires. `refused` says that the
 * last one was refused, so that a cached one is of no use. An error with the property `final`
 * stops the client; after any other the client tries again.
 */
export type TokenProvider = (about: { refused: boolean }) => string | undefined | Promise<string | undefined>;

export interface Options {
  /** Left out where the server takes the token from a cookie. */
  token?: string | TokenProvider;
  /**
   * Where the page stands, as the backend got it from `POST /v2/position` before it read the data
   * of the page.
   */
  after?: string;
  /** The class to use, for example of the package `ws` in Node 20. */
  WebSocket?: new (url: string, protocols: string[]) => any;
}

/** Messages are missing, and the server does not have them. */
export interface Gap {
  /** `restarted`, `expired`, `evicted`, `too_far`, `lost` or `node_gone`. */
  reason: string;
}

/** The events of a program and the type of their messages' text. */
export type Events = Record<string, string>;

/** One connection that comes back by itself. It begins with the first handler. */
export interface Server<E extends { [event in keyof E]: string } = Events> {
  readonly status: Status;
  /** Why it has stopped, if nobody asked for it. */
  readonly reason: Problem | undefined;
  /**
   * Calls `handler` with each message of `event`, as it was pushed. Returns what ends that. A push
   * that waits for an acknowledgement gets it when all handlers have returned and their promises
   * are resolved.
   */
  on<K extends keyof E & string>(event: K, handler: (message: E[K], about: About) => unknown): () => void;
  /** Calls `listener` now and at each change. */
  onStatus(listener: (status: Status, reason: Problem | undefined) => unknown): () => void;
  /** Calls `listener` with what goes wrong; without one, the console is told. */
  onProblem(listener: (problem: Problem) => unknown): () => void;
  /**
   * Calls `listener` when messages are missing that the server keeps for replay: fetch the data
   * anew. After a restart of the server it comes at a random moment, since all pages have to.
   */
  onGap(listener: (gap: Gap) => unknown): () => void;
  /** The messages of `event` until `signal` is aborted or the client stops. */
  messages<K extends keyof E & string>(
    event: K,
    options?: { signal?: AbortSignal },
  ): AsyncGenerator<{ message: E[K] } & About, void, void>;
  /** Ends it for good. */
  close(): void;
}

/**
 * A client of the server at `url`: `wss://example.com/ws`, or `/ws` on the host of this page.
 */
export function connect<E extends { [event in keyof E]: string } = Events>(
  url: string | URL,
  options?: Options,
): Server<E>;
