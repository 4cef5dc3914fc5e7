// The types and the code as a CommonJS module sees them.
import assert = require('node:assert/strict');
import nodeTest = require('node:test');

import metergate = require('metergate');
import tracking = require('metergate/usage-tracking');

nodeTest.test('a CommonJS module has the same client with the same types', () => {
  const options: metergate.MetergateOptions = { url: 'http://127.0.0.1:9', key: 'k', onUnreachable: 'allow' };
  const { trackUsage, stats } = new metergate.Metergate(options);
  const tracker: metergate.Tracker = trackUsage('acme', 'api_call');
  assert.match(tracker.eventId, /^[0-9a-f-]{36}$/);
  assert.equal(stats.queued, 0);
  assert.equal(typeof tracking.trackUsage, 'function');
});
