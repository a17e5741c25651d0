// A push server in Bun, with what Bun offers for it: native routes, topics and server.publish.
// Speaks version 1 of our protocol. Its one argument is the address to listen on.

const [hostname, port] = Bun.argv[2].split(":");

const server = Bun.serve({
  hostname,
  port: Number(port),
  idleTimeout: 0,
  development: false,
  routes: {
    "/push": {
      async POST(request) {
        const { userId, event, message } = await request.json();
        const topic = userId + "\n" + event;
        const count = server.subscriberCount(topic);
        if (count > 0) server.publish(topic, message);
        return new Response(`message sent to ${count} clients`);
      },
    },
    "/ws": (request, server) =>
      server.upgrade(request) ? undefined : new Response("no upgrade", { status: 400 }),
  },
  fetch() {
    return new Response("not found", { status: 404 });
  },
  websocket: {
    perMessageDeflate: false,
    // As much as it allows; who falls behind further is disconnected, not skipped.
    backpressureLimit: 16 * 1024 * 1024,
    closeOnBackpressureLimit: true,
    idleTimeout: 120,
    message(socket, data) {
      const { token, event } = JSON.parse(data as string);
      socket.subscribe(token + "\n" + event);
    },
  },
});
