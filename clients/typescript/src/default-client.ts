// The client of the documented modules: made from the environment when it is first used.

import { Metergate } from './client.js';
import { optionsFromEnvironment } from './options.js';

const CLIENT = Symbol.for('metergate.default-client.1');

/** One for the process, also where it loads this package twice. Fails when the environment lacks something. */
export function defaultClient(): Metergate {
  const place = globalThis as { [CLIENT]?: Metergate };
  let client = place[CLIENT];
  if (client === undefined) {
    client = new Metergate(optionsFromEnvironment());
    place[CLIENT] = client;
  }
  return client;
}

/** An object whose every property is read from another when it is used, so that importing it needs nothing. @internal */
export function lazily<T extends object>(target: () => T): T {
  return new Proxy({} as T, {
    get: (_, name) => {
      const object = target();
      const value: unknown = Reflect.get(object, name, object);
      return typeof value === 'function' ? (value as (...given: unknown[]) => unknown).bind(object) : value;
    },
  });
}
