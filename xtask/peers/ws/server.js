// A push server in node with ws, as its documentation has it: a set of sockets for each topic.
// Speaks version 1 of our protocol. Its one argument is the address to listen on.

const http = require("http");
const { WebSocketServer } = require("ws");

const [hostname, port] = process.argv[2].split(":");
const topics = new Map();

const server = http.createServer((request, response) => {
  const parts = [];
  request.on("data", (part) => parts.push(part));
  request.on("end", () => {
    const { userId, event, message } = JSON.parse(Buffer.concat(parts));
    // Encoded to bytes once, not for each socket.
    const data = Buffer.from(message);
    let count = 0;
    for (const socket of topics.get(userId + "\n" + event) ?? []) {
      socket.send(data, { binary: false });
      count += 1;
    }
    const body = `message sent to ${count} clients`;
    response.writeHead(200, { "Content-Length": body.length });
    response.end(body);
  });
});
server.keepAliveTimeout = 600_000;

const sockets = new WebSocketServer({ server, path: "/ws", perMessageDeflate: false });
sockets.on("connection", (socket) => {
  const mine = new Set();
  socket.on("message", (data) => {
    const { token, event } = JSON.parse(data);
    const topic = token + "\n" + event;
    if (!topics.has(topic)) topics.set(topic, new Set());
    topics.get(topic).add(socket);
    mine.add(topic);
  });
  socket.on("close", () => {
    for (const topic of mine) {
      topics.get(topic)?.delete(socket);
      if (topics.get(topic)?.size === 0) topics.delete(topic);
    }
  });
  socket.on("error", () => {});
});
server.listen({ host: hostname, port: Number(port), backlog: 4096 });
