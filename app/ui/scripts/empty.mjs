// Whether a test fails when a component's body is emptied: for each of the wanted ones that exists, the tests that have its name are run
// with it emptied. All of them with MLXR_SOAK; else that all have tests of their name, and that a few are noticed.
//
//   node scripts/empty.mjs [NAME…]
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const WANTED = JSON.parse(readFileSync('scripts/components.json', 'utf8'));
const FEW = ['StatsCard', 'ToolCallView'];
const all = Object.entries(WANTED).flatMap(([folder, names]) => names.map((name) => ({ name, file: `src/components/${folder}/${name}.tsx` })));
const tests = readdirSync('test').filter((file) => /\.test\.tsx?$/.test(file)).map((name) => `test/${name}`).map((file) => ({ file, source: readFileSync(file, 'utf8') }));
const there = all.filter(({ file }) => existsSync(file));
const files = (name) => tests.filter(({ source }) => new RegExp(`\\bit\\('${name} `).test(source)).map(({ file }) => file);
const lacking = there.filter(({ name }) => files(name).length === 0).map(({ name }) => name);

function notices(name) {
  const report = join(tmpdir(), `mlxr-empty-${process.pid}.json`);
  const args = ['node_modules/vitest/vitest.mjs', 'run', '--bail', '1', '-t', ` ${name} `, '--reporter=json', `--outputFile=${report}`, ...files(name)];
  const { status } = spawnSync(process.execPath, args, { env: { ...process.env, MLXR_EMPTY: name }, stdio: 'ignore' });
  // Failed tests: not a run that came to nothing.
  return status !== 0 && JSON.parse(readFileSync(report, 'utf8')).numFailedTests > 0;
}

const asked = process.argv.slice(2);
const chosen = asked.length ? there.filter(({ name }) => asked.includes(name)) : there.filter(({ name }) => process.env.MLXR_SOAK || FEW.includes(name));
const unnoticed = chosen.filter(({ name }) => files(name).length > 0).map(({ name }) => name).filter((name) => !notices(name));
console.log(`${there.length} of ${all.length} components are there; ${chosen.length} were emptied, ${unnoticed.length} without a test that fails`);
if (lacking.length) console.error(`no test has the name of: ${lacking.join(' ')}`);
if (unnoticed.length) console.error(`emptied, and no test failed: ${unnoticed.join(' ')}`);
process.exit(lacking.length || unnoticed.length ? 1 : 0);
