// Builds dist/esm and dist/cjs, each with its types.
import { execFileSync } from 'node:child_process';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const tsc = join(root, 'node_modules', 'typescript', 'bin', 'tsc');

rmSync(join(root, 'dist'), { recursive: true, force: true });
for (const [kind, type] of [['esm', 'module'], ['cjs', 'commonjs']]) {
  const out = join(root, 'dist', kind);
  mkdirSync(out, { recursive: true });
  // The nearest package.json says how Node and TypeScript read the files beside it.
  writeFileSync(join(out, 'package.json'), `${JSON.stringify({ type, sideEffects: false })}\n`);
  execFileSync(process.execPath, [tsc, '-p', join(root, `tsconfig.${kind}.json`)], { stdio: 'inherit', cwd: root });
}
