// What a program may write, and what it may not: checked by tsc, never run.

import { connect, type Problem, type Status } from "wserver";
import { useEvent, useStatus } from "wserver/react";

const plain = connect("/ws", { token: "aaa" });
plain.on("anything", (message: string, { event, id }) => [message, event, id]);
const ends: () => void = plain.onStatus((status: Status, reason?: Problem) => [status, reason?.code]);
ends();

type Mine = { order: `{${string}}`; tick: "tick" | "tock" };
const typed = connect<Mine>(new URL("wss://example.com/ws"), {
  token: async ({ refused }) => (refused ? undefined : "aaa"),
});
typed.on("tick", (message: "tick" | "tock") => message);
// @ts-expect-error an event that there is not
typed.on("orders", () => {});
// @ts-expect-error a message of another type
typed.on("tick", (message: "tack") => message);
// @ts-expect-error a token is text
connect("/ws", { token: 7 });

export async function read(signal: AbortSignal): Promise<void> {
  for await (const { message, id } of typed.messages("tick", { signal })) {
    const text: "tick" | "tock" = message;
    console.log(text, id);
  }
}

export function Component(): Status {
  useEvent(typed, "tick", (message: "tick" | "tock") => message);
  return useStatus(typed);
}
