// An HTTP proxy that loses answers, and servers that never answer.
import { once } from 'node:events';
import { type IncomingMessage, type ServerResponse, createServer, request } from 'node:http';
import { type AddressInfo, type Socket, createServer as createSocket } from 'node:net';
import { after } from 'node:test';

/** What a proxy does with the next request: `lose` forwards it and drops the answer, `refuse` answers 503 itself. */
export type Fate = 'pass' | 'lose' | 'refuse';

export interface Proxy {
  url: string;
  /** Method and path of every request that came. */
  seen: string[];
  /** Every body that came, in the same order. */
  bodies: string[];
}

/** Forwards to `target`; `fate` decides for each request. */
export async function startProxy(target: string, fate: (path: string, number: number) => Fate): Promise<Proxy> {
  const proxy: Proxy = { url: '', seen: [], bodies: [] };
  const server = createServer((incoming, outgoing) => {
    void forward(incoming, outgoing);
  });
  const forward = async (incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> => {
    const path = incoming.url ?? '';
    const body = await readAll(incoming);
    proxy.seen.push(`${incoming.method ?? ''} ${path}`);
    proxy.bodies.push(body);
    const decided = fate(path, proxy.seen.length);
    if (decided === 'refuse') {
      outgoing.writeHead(503, { 'content-type': 'application/json' }).end('{"error":"busy","code":"queue_full"}');
      return;
    }
    const onward = request(new URL(path, target), { method: incoming.method, headers: incoming.headers });
    onward.end(body);
    const [answer] = await once(onward, 'response') as [IncomingMessage];
    const text = await readAll(answer);
    if (decided === 'lose') {
      outgoing.socket?.destroy();
    } else {
      outgoing.writeHead(answer.statusCode ?? 500, answer.headers).end(text);
    }
  };
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  after(() => {
    server.closeAllConnections();
    server.close();
  });
  proxy.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return proxy;
}

/** Accepts connections and never says a word. */
export async function startSilence(): Promise<string> {
  const sockets = new Set<Socket>();
  const server = createSocket((socket) => {
    sockets.add(socket);
    socket.on('error', () => undefined);
    socket.resume();
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  after(() => {
    sockets.forEach((socket) => socket.destroy());
    server.close();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

/** An address where nobody listens. */
export async function closedPort(): Promise<string> {
  const server = createSocket();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return `http://127.0.0.1:${port}`;
}

async function readAll(message: IncomingMessage): Promise<string> {
  const pieces: Buffer[] = [];
  for await (const piece of message) {
    pieces.push(piece as Buffer);
  }
  return Buffer.concat(pieces).toString('utf8');
}
