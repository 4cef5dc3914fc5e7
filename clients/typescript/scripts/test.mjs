// Compiles the tests and runs them; arguments go to node, such as --test-reporter=spec or --test-name-pattern=quick.
import { execFileSync, spawnSync } from 'node:child_process';
import { readdirSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const out = join(root, '.build', 'test');

rmSync(out, { recursive: true, force: true });
execFileSync(process.execPath, [join(root, 'node_modules', 'typescript', 'bin', 'tsc'), '-p', join(root, 'tsconfig.test.json')], {
  stdio: 'inherit', cwd: root,
});
const files = readdirSync(out).filter((name) => /\.test\.c?js$/.test(name)).sort().map((name) => join(out, name));
// The order of the files is kept: the documented quick start comes first.
const { status } = spawnSync(process.execPath, ['--expose-gc', '--test', ...process.argv.slice(2), ...files], {
  stdio: 'inherit', cwd: root,
});
process.exit(status ?? 1);
