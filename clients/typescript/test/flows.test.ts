// Whose hold is closed by whom.
import assert from 'node:assert/strict';
import { AsyncLocalStorage } from 'node:async_hooks';
import { EventEmitter, once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';

import type { Tracker } from 'metergate';

import { client, startServer, tenantWith, tokens } from './support/server.js';

const server = await startServer();
const metergate = client(server);
const { enforceQuota, enforceMultipleQuotas, trackUsage } = metergate;

function gate(): { opened: Promise<void>; open: () => void } {
  let open: () => void = () => undefined;
  const opened = new Promise<void>((resolve) => { open = resolve; });
  return { opened, open };
}

test('64 parallel callers never pass a small budget, and no call closes the hold of another', async () => {
  const tenantId = await tenantWith(metergate, 1_000);
  const gates = Array.from({ length: 64 }, gate);
  let decided = 0;
  const decisions = new EventEmitter();
  const call = async (number: number): Promise<boolean> => {
    const quota = await enforceQuota(tenantId, 'tokens', 100);
    const { allowed } = quota;
    decided += 1;
    decisions.emit('decided');
    if (!allowed) {
      return false;
    }
    const tracker = trackUsage(tenantId, 'chat_message');
    await gates[number]?.opened;
    await tracker.recordSuccess({ tokensUsed: 60 });
    return true;
  };
  const calls = gates.map((_, number) => call(number));
  while (decided < 64) {
    await once(decisions, 'decided');
  }
  assert.deepEqual(await tokens(metergate, tenantId), [0, 1_000]);

  // One after the other ends, the last first: exactly its own hold goes each time.
  let finished = 0;
  for (const [number, { open }] of [...gates.entries()].reverse()) {
    open();
    if (await (calls[number] ?? Promise.resolve(false))) {
      finished += 1;
      assert.deepEqual(await tokens(metergate, tenantId), [60 * finished, 1_000 - 100 * finished]);
    }
  }
  assert.equal(finished, 10);
});

test('an endless stream of callers uses a budget up and never passes it', async () => {
  const tenantId = await tenantWith(metergate, 5_000);
  const worker = async (): Promise<void> => {
    for (let round = 0; round < 12; round += 1) {
      const quota = await enforceQuota(tenantId, 'tokens', 100);
      if (!quota.allowed) {
        continue;
      }
      const tracker = trackUsage(tenantId, 'api_call');
      await turn();
      await tracker.recordSuccess({ tokensUsed: 100 });
    }
  };
  await Promise.all(Array.from({ length: 64 }, worker));
  assert.deepEqual(await tokens(metergate, tenantId), [5_000, 0]);
});

test('a call that starts while another is under way leaves its hold alone', async () => {
  const tenantId = await tenantWith(metergate, 10_000);
  const { opened, open } = gate();
  const slow = async (): Promise<void> => {
    const quota = await enforceQuota(tenantId, 'tokens', 500);
    if (quota.allowed) {
      await opened;
      await trackUsage(tenantId, 'chat_message').recordSuccess({ tokensUsed: 300 });
    }
  };
  const first = slow();
  while ((await tokens(metergate, tenantId))[1] === 0) {
    await turn();
  }
  // From the very flow that started the slow call: one that enforces, one that does not, one of another type.
  const quota = await enforceQuota(tenantId, 'tokens', 50);
  assert.ok(quota.allowed);
  await trackUsage(tenantId, 'api_call').recordSuccess({ tokensUsed: 40 });
  assert.deepEqual(await tokens(metergate, tenantId), [40, 500]);
  await trackUsage(tenantId, 'search').recordSuccess({ tokensUsed: 7 });
  assert.deepEqual(await tokens(metergate, tenantId), [47, 500]);
  const other = await enforceQuota(tenantId, 'embeddings', 1);
  assert.ok(other.allowed);
  await trackUsage(tenantId, 'embedding').recordSuccess({ tokensUsed: 3 });
  assert.deepEqual(await tokens(metergate, tenantId), [50, 500]);
  open();
  await first;
  assert.deepEqual(await tokens(metergate, tenantId), [350, 0]);
});

test('requests on one kept connection, handled in parallel or in turn, settle their own holds', async () => {
  const tenantId = await tenantWith(metergate, 10_000);
  const waiting = new Map<string, () => void>();
  const web = createServer((request, response) => {
    const handle = async (): Promise<void> => {
      // Called at once, in the context of the socket.
      const quota = await enforceQuota(tenantId, 'tokens', 100);
      if (quota.allowed) {
        const tracker = trackUsage(tenantId, 'api_call');
        await new Promise<void>((resolve) => { waiting.set(request.url ?? '', resolve); });
        await tracker.recordSuccess({ tokensUsed: 10 });
      }
      response.end('ok');
    };
    void handle();
  });
  web.listen(0, '127.0.0.1');
  await once(web, 'listening');
  const url = `http://127.0.0.1:${(web.address() as AddressInfo).port}`;
  const finish = async (path: string): Promise<void> => {
    while (!waiting.has(path)) {
      await turn();
    }
    waiting.get(path)?.();
  };
  const [one, two] = [fetch(`${url}/1`), fetch(`${url}/2`)];
  await finish('/2');
  await (await two).text();
  assert.deepEqual(await tokens(metergate, tenantId), [10, 100]);
  const three = fetch(`${url}/3`);
  await finish('/3');
  await (await three).text();
  assert.deepEqual(await tokens(metergate, tenantId), [20, 100]);
  await finish('/1');
  await (await one).text();
  assert.deepEqual(await tokens(metergate, tenantId), [30, 0]);
  web.closeAllConnections();
  web.close();
});

test('several types in one flow, enforced one after the other or together, end with its one record', async () => {
  const tenantId = await tenantWith(metergate, 1_000);
  await metergate.setCustomQuota(tenantId, 'chat_messages', 10);
  const held = async (): Promise<number[]> => {
    const { quotas } = await metergate.getQuotaStatus(tenantId);
    return [quotas.tokens.held, quotas.chat_messages.held, quotas.tokens.used, quotas.chat_messages.used];
  };
  const inTurn = async (): Promise<Tracker | undefined> => {
    const messages = await enforceQuota(tenantId, 'chat_messages', 1);
    const words = messages.allowed ? await enforceQuota(tenantId, 'tokens', 200) : messages;
    return words.allowed ? trackUsage(tenantId, 'chat_message') : undefined;
  };
  const first = await inTurn();
  assert.deepEqual(await held(), [200, 1, 0, 0]);
  await first?.recordSuccess({ tokensUsed: 150 });
  await metergate.flush();
  assert.deepEqual(await held(), [0, 0, 150, 1]);

  const both = await enforceMultipleQuotas(tenantId, [{ type: 'chat_messages', amount: 1 }, { type: 'tokens', amount: 200n }]);
  assert.deepEqual(both, {
    allowed: true,
    results: {
      chat_messages: { allowed: true, tokensRemaining: 8, quotaLimit: 10 },
      tokens: { allowed: true, tokensRemaining: 650, quotaLimit: 1_000 },
    },
  });
  await trackUsage(tenantId, 'chat_message').recordSuccess({ tokensUsed: 100 });
  assert.deepEqual(await held(), [0, 0, 250, 2]);
  const none = await enforceMultipleQuotas(tenantId, [{ type: 'chat_messages', amount: 1 }, { type: 'tokens', amount: 5_000 }]);
  assert.equal(none.allowed, false);
  assert.equal(none.results.chat_messages?.tokensRemaining, 8);
  assert.equal(none.deniedBy?.[0]?.asked, 5_000);
});

test('a nested call settles its own hold of a type, and its parent the parent hold', async () => {
  const tenantId = await tenantWith(metergate, 10_000);
  const item = async (): Promise<void> => {
    const quota = await enforceQuota(tenantId, 'tokens', 10);
    if (quota.allowed) {
      await trackUsage(tenantId, 'embedding').recordSuccess({ tokensUsed: 5 });
    }
  };
  const batch = async (): Promise<void> => {
    const quota = await enforceQuota(tenantId, 'tokens', 1_000);
    if (!quota.allowed) {
      return;
    }
    await Promise.all([item(), item(), item()]);
    assert.deepEqual(await tokens(metergate, tenantId), [15, 1_000]);
    const tracker = trackUsage(tenantId, 'api_call');
    await item();
    assert.deepEqual(await tokens(metergate, tenantId), [20, 1_000]);
    await tracker.recordSuccess({ tokensUsed: 700 });
  };
  await batch();
  assert.deepEqual(await tokens(metergate, tenantId), [720, 0]);
});

test('a hold is settled by the tracker that took it, not by the next one of the same flow', async () => {
  const tenantId = await tenantWith(metergate, 1_000);
  const quota = await enforceQuota(tenantId, 'tokens', 300);
  assert.ok(quota.allowed);
  const chat = trackUsage(tenantId, 'chat_message');
  await trackUsage(tenantId, 'search').recordSuccess({ tokensUsed: 1 });
  assert.deepEqual(await tokens(metergate, tenantId), [1, 300]);
  await chat.recordSuccess({ tokensUsed: 20 });
  assert.deepEqual(await tokens(metergate, tenantId), [21, 0]);
});

test('tracking may begin before enforcing', async () => {
  const tenantId = await tenantWith(metergate, 1_000);
  const tracker = trackUsage(tenantId, 'api_call');
  const quota = await enforceQuota(tenantId, 'tokens', 300);
  assert.equal(quota.allowed, true);
  await tracker.recordSuccess({ tokensUsed: 20 });
  assert.deepEqual(await tokens(metergate, tenantId), [20, 0]);
});

test('a helper may hand the answer on; one that keeps it to itself needs run', async () => {
  const tenantId = await tenantWith(metergate, 10_000);
  const helper = async (): Promise<{ allowed: boolean }> => {
    await turn();
    const quota = await enforceQuota(tenantId, 'tokens', 100);
    await turn();
    return quota;
  };
  const guard = async (): Promise<void> => {
    const quota = await enforceQuota(tenantId, 'tokens', 100);
    if (!quota.allowed) {
      throw new Error('no');
    }
  };
  assert.ok((await helper()).allowed);
  await trackUsage(tenantId, 'api_call').recordSuccess({ tokensUsed: 1 });
  assert.deepEqual(await tokens(metergate, tenantId), [1, 0]);

  const guarded = (): Promise<void> => metergate.run(async () => {
    await guard();
    await trackUsage(tenantId, 'api_call').recordSuccess({ tokensUsed: 1 });
  });
  await Promise.all(Array.from({ length: 10 }, guarded));
  assert.deepEqual(await tokens(metergate, tenantId), [11, 0]);

  // Without run nobody can know whose it is: it is left to lapse, and closes nobody else's.
  await guard();
  await trackUsage(tenantId, 'api_call').recordSuccess({ tokensUsed: 1 });
  assert.deepEqual(await tokens(metergate, tenantId), [12, 100]);
});

test('an anonymous hold is closed by the next record of the tenant', async () => {
  const tenantId = await tenantWith(metergate, 1_000);
  const quota = await enforceQuota(tenantId, 'tokens', 100, { hold: 'anonymous' });
  assert.ok(quota.allowed);
  assert.deepEqual(await tokens(metergate, tenantId), [0, 100]);
  await trackUsage(tenantId, 'api_call').recordSuccess({ tokensUsed: 30 });
  assert.deepEqual(await tokens(metergate, tenantId), [30, 0]);
});

test('a runtime that cannot enter a context takes anonymous holds outside run, and its own inside', async () => {
  const tenantId = await tenantWith(metergate, 1_000);
  const [place, name] = [globalThis as Record<symbol, unknown>, Symbol.for('metergate.flows.1')];
  const flows = place[name];
  assert.ok(flows instanceof AsyncLocalStorage);
  place[name] = { run: flows.run.bind(flows), getStore: flows.getStore.bind(flows) };
  try {
    const quota = await enforceQuota(tenantId, 'tokens', 100);
    assert.ok(quota.allowed);
    await metergate.run(async () => {
      const own = await enforceQuota(tenantId, 'tokens', 50);
      assert.ok(own.allowed);
      await trackUsage(tenantId, 'api_call').recordSuccess({ tokensUsed: 5 });
    });
    assert.deepEqual(await tokens(metergate, tenantId), [5, 100]);
    await trackUsage(tenantId, 'api_call').recordSuccess({ tokensUsed: 30 });
  } finally {
    place[name] = flows;
  }
  assert.deepEqual(await tokens(metergate, tenantId), [35, 0]);
});

test('explicit reservations are nobody else\'s', async () => {
  const tenantId = await tenantWith(metergate, 1_000);
  const reserved = await metergate.reserve(tenantId, [{ type: 'tokens', amount: 400 }], { reservationId: 'job-7', ttlSeconds: 600 });
  assert.ok(reserved.allowed);
  assert.ok(Date.parse(reserved.expiresAt ?? '') > Date.now() + 500_000);
  await trackUsage(tenantId, 'api_call').recordSuccess({ tokensUsed: 1 });
  assert.deepEqual(await tokens(metergate, tenantId), [1, 400]);
  const settled = await metergate.settle(tenantId, 'job-7', [{ event_type: 'api_call', tokens_consumed: 350 }]);
  assert.deepEqual(settled, { accepted: 1, duplicates: 0, rejected: [], overage: false, lapsed: false });
  assert.equal(await metergate.release(tenantId, 'job-7'), false);
  const denied = await metergate.reserve(tenantId, [{ type: 'tokens', amount: 650 }]);
  assert.equal(denied.allowed, false);
  assert.equal(denied.code, 'quota_exceeded');
  assert.equal((await metergate.check(tenantId, 'tokens', 649)).allowed, true);
  const again = await metergate.reserve(tenantId, [{ type: 'tokens', amount: 649 }]);
  assert.equal(await metergate.release(tenantId, again.reservationId), true);
  assert.deepEqual(await tokens(metergate, tenantId), [351, 0]);
  await assert.rejects(metergate.release(tenantId, 'never'), { name: 'MetergateError', status: 404, code: 'reservation_unknown' });
});

test('a tracker that is dropped without a word records 499 and gives its hold back', async (context) => {
  const { gc } = globalThis as { gc?: () => void };
  if (gc === undefined) {
    context.skip('needs --expose-gc');
    return;
  }
  const tenantId = await tenantWith(metergate, 1_000);
  const forget = async (): Promise<void> => {
    const quota = await enforceQuota(tenantId, 'tokens', 100);
    assert.ok(quota.allowed);
    trackUsage(tenantId, 'api_call');
  };
  await forget();
  for (let tries = 0; tries < 200; tries += 1) {
    gc();
    await turn();
    const [, held] = await tokens(metergate, tenantId);
    if (held === 0) {
      break;
    }
  }
  assert.deepEqual(await tokens(metergate, tenantId), [0, 0]);
  const [event] = await metergate.usage.getTenantEvents(tenantId);
  assert.equal(event?.api_status_code, 499);
});
