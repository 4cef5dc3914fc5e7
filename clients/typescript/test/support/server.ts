// A real metergate server on a free port with a folder of its own.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { after } from 'node:test';

import { Metergate, type MetergateOptions } from 'metergate';

export interface Server {
  url: string;
  key: string;
}

export const CRON_SECRET = 'a-secret-of-the-tests';

/** Runs until the tests of the calling file end. */
export async function startServer(): Promise<Server> {
  const binary = process.env['METERGATE_BIN'];
  if (binary === undefined) {
    throw new Error('METERGATE_BIN must name the server: run tests/sdk/run.sh');
  }
  const folder = await mkdtemp(join(tmpdir(), 'metergate-sdk-'));
  const data = join(folder, 'data');
  const server = spawn(binary, ['serve', '--listen', '127.0.0.1:0', '--data-dir', data], {
    cwd: folder,
    env: { PATH: process.env['PATH'], CRON_SECRET, METERGATE_LOG_LEVEL: 'error' },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  after(async () => {
    await stop(server);
    await rm(folder, { recursive: true, force: true });
  });
  const url = await addressOf(server);
  const key = (await readFile(join(data, 'admin.key'), 'utf8')).trim();
  return { url, key };
}

async function addressOf(server: ChildProcess): Promise<string> {
  const { stdout } = server;
  if (stdout === null) {
    throw new Error('the server has no output');
  }
  for await (const line of createInterface({ input: stdout })) {
    const [, url] = /^metergate is listening on (\S+)$/.exec(line) ?? [];
    if (url !== undefined) {
      stdout.resume();
      return url;
    }
  }
  throw new Error(`the server ended with ${server.exitCode ?? 'a signal'}`);
}

async function stop(server: ChildProcess): Promise<void> {
  if (server.exitCode === null && server.signalCode === null) {
    const ended = once(server, 'exit');
    server.kill();
    await ended;
  }
}

/** A client whose recording problems fail the test run, unless it listens itself. */
export function client(server: Server, options: Partial<MetergateOptions> = {}): Metergate {
  return new Metergate({
    onUnreachable: 'deny',
    timeoutMs: 5_000,
    onError: (problem) => { throw new Error(`unexpected: ${problem.kind}: ${problem.message}`); },
    ...server,
    ...options,
  });
}

let tenants = 0;

/** A tenant that no other test knows, with a limit of tokens a day and no other. */
export async function tenantWith(metergate: Metergate, tokens: number): Promise<string> {
  tenants += 1;
  const tenantId = `tenant-${process.pid}-${tenants}`;
  await metergate.admin.putTenant(tenantId, { plan: 'enterprise' });
  await metergate.setCustomQuota(tenantId, 'tokens', tokens);
  return tenantId;
}

/** What of the tokens quota is used and held. */
export async function tokens(metergate: Metergate, tenantId: string): Promise<[used: number, held: number]> {
  const { quotas } = await metergate.getQuotaStatus(tenantId);
  return [quotas.tokens.used, quotas.tokens.held];
}
