// src/api/schema.ts from a daemon's /openapi.json: the bodies and answers of /ui-api, and what they are made of.
//
//   node scripts/types.mjs PROGRAM [--check]
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

const [program, mode] = process.argv.slice(2);
const output = join(dirname(fileURLToPath(import.meta.url)), '..', 'src', 'api', 'schema.ts');

async function document() {
  const home = mkdtempSync(join(tmpdir(), 'mlxr-types-'));
  const daemon = spawn(program, ['serve', '--port', '0'], {
    env: { PATH: process.env.PATH, HOME: home, MLXR_MODELS: home },
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  const ended = new Promise((done) => daemon.once('exit', done));
  try {
    for await (const line of createInterface({ input: daemon.stderr })) {
      const found = /listening on (http:\/\/\S+:\d+)$/.exec(line);
      if (found) {
        daemon.stderr.resume();
        return await (await fetch(`${found[1]}/openapi.json`)).json();
      }
    }
    throw new Error(`${program} serve told no address`);
  } finally {
    daemon.kill('SIGTERM');
    await ended;
    rmSync(home, { recursive: true, force: true });
  }
}

const nameOf = (ref) => ref.split('/').at(-1);
const quoted = (key) => (/^[A-Za-z_]\w*$/.test(key) ? key : JSON.stringify(key));

function typeOf(schema, indent) {
  if (!schema || schema === true) return 'unknown';
  if (schema.$ref) return nameOf(schema.$ref);
  if ('const' in schema) return JSON.stringify(schema.const);
  if (schema.enum) return schema.enum.map((v) => JSON.stringify(v)).join(' | ');
  const several = schema.anyOf ?? schema.oneOf;
  if (several) return several.map((s) => typeOf(s, indent)).join(' | ');
  const types = [schema.type ?? (schema.properties ? 'object' : undefined)].flat();
  const one = (type) => {
    if (type === 'integer') return 'number';
    if (type === 'array') return `readonly (${typeOf(schema.items, indent)})[]`;
    if (type !== 'object') return type ?? 'unknown';
    const rows = Object.entries(schema.properties ?? {}).map(([key, value]) => {
      const optional = schema.required?.includes(key) ? '' : '?';
      return `${indent}  ${quoted(key)}${optional}: ${typeOf(value, `${indent}  `)};\n`;
    });
    const rest = schema.additionalProperties;
    if (!rows.length) return `Record<string, ${typeof rest === 'object' ? typeOf(rest, indent) : 'unknown'}>`;
    return `{\n${rows.join('')}${indent}}`;
  };
  return types.map(one).join(' | ');
}

function refsIn(value, found = new Set()) {
  if (value && typeof value === 'object') {
    if (typeof value.$ref === 'string') found.add(nameOf(value.$ref));
    Object.values(value).forEach((v) => refsIn(v, found));
  }
  return found;
}

function typesOf(api) {
  const routes = [];
  const needed = new Set();
  for (const [path, methods] of Object.entries(api.paths)) {
    if (!path.startsWith('/ui-api/')) continue;
    for (const [method, operation] of Object.entries(methods)) {
      const body = operation.requestBody?.content?.['application/json']?.schema;
      const good = Object.entries(operation.responses).find(([status]) => status.startsWith('2'))?.[1];
      const content = good?.content ?? {};
      const answer = content['application/json']?.schema;
      const event = content['text/event-stream']?.['x-event'];
      refsIn([body, answer, event], needed);
      const parts = [body && `body: ${typeOf(body, '    ')}`, `answer: ${typeOf(answer, '    ')}`];
      parts.push(event && `event: ${typeOf(event, '    ')}`);
      routes.push(`  '${method.toUpperCase()} ${path}': { ${parts.filter(Boolean).join('; ')} };\n`);
    }
  }
  const schemas = [];
  const done = new Set();
  for (const name of needed) {
    // The set grows while it is walked.
    if (done.has(name)) continue;
    done.add(name);
    refsIn(api.components.schemas[name]).forEach((n) => needed.add(n));
  }
  for (const name of [...done].sort()) {
    schemas.push(`export type ${name} = ${typeOf(api.components.schemas[name], '')};\n`);
  }
  return (
    '// Made by `tools/ui types` from /openapi.json; do not edit.\n\n' +
    `${schemas.join('\n')}\nexport interface Routes {\n${routes.sort().join('')}}\n`
  );
}

const made = typesOf(await document());
const before = (() => {
  try {
    return readFileSync(output, 'utf8');
  } catch {
    return '';
  }
})();
if (mode === '--check') {
  if (made !== before) {
    console.error('src/api/schema.ts is not what /openapi.json says: run tools/ui types PROGRAM');
    process.exit(1);
  }
} else if (made !== before) {
  writeFileSync(output, made);
}
