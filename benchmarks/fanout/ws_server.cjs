// Sends what comes in at /publish to every socket at /listen: the broadcast of ws's own documentation.
// Arguments: the folder of the package, and the port. Compression is off, as is ws's default.
const { WebSocket, WebSocketServer } = require(process.argv[2]);

const server = new WebSocketServer({ host: "127.0.0.1", port: Number(process.argv[3]), backlog: 4096 });
const listeners = new Set();

server.on("connection", (socket, request) => {
  socket.on("error", () => {});
  if (request.url === "/publish") {
    socket.on("message", (message) => {
      for (const listener of listeners) {
        if (listener.readyState === WebSocket.OPEN) listener.send(message, { binary: false });
      }
    });
  } else {
    listeners.add(socket);
    socket.on("close", () => listeners.delete(socket));
  }
});
