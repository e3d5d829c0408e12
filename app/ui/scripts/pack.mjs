// dist/ as a C header for daemon/server/ui_files.c, and the budget of what a first visit loads.
//
//   node scripts/pack.mjs OUTPUT.inc
//
// Every file is packed with gzip; what is not in assets/ is there as it is, too, for clients that take no gzip.
import { createHash } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, extname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';

const INITIAL_MAX = 130 * 1024;
const TYPES = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.svg': 'image/svg+xml',
  '.png': 'image/png',
  '.json': 'application/json',
  '.webmanifest': 'application/manifest+json',
};
const dist = join(dirname(fileURLToPath(import.meta.url)), '..', 'dist');

function* filesBelow(folder, path = '') {
  for (const entry of readdirSync(folder, { withFileTypes: true }).sort((a, b) => (a.name < b.name ? -1 : 1))) {
    if (entry.name.startsWith('.')) continue; // the bundler's own list
    if (entry.isDirectory()) yield* filesBelow(join(folder, entry.name), `${path}/${entry.name}`);
    else yield [`${path}/${entry.name}`, readFileSync(join(folder, entry.name))];
  }
}

const files = new Map(filesBelow(dist));
const packed = new Map([...files].map(([path, bytes]) => [path, gzipSync(bytes, { level: 9 })]));

// What a first visit loads: index.html, its script and styles, the frame, the chat page, and all that these import at once.
const html = files.get('/index.html').toString();
const manifest = JSON.parse(readFileSync(join(dist, '.vite', 'manifest.json'), 'utf8'));
const initial = new Set(['/index.html', '/favicon.svg']);
function addChunk(name) {
  const { file, css = [], imports = [] } = manifest[name];
  if (initial.has(`/${file}`)) return;
  [file, ...css].forEach((path) => initial.add(`/${path}`));
  imports.forEach(addChunk);
}
['index.html', 'src/main.tsx', 'src/components/chat/ChatPage.tsx'].forEach(addChunk);
const bytes = [...initial].reduce((sum, path) => sum + packed.get(path).length, 0);
if (/<script(?![^>]*\ssrc=)|<style|\sstyle=|\son\w+=/i.test(html)) {
  console.error('pack: index.html holds inline script or style, which its content security policy forbids');
  process.exit(1);
}
if (bytes > INITIAL_MAX) {
  console.error(`pack: a first visit loads ${bytes} bytes (gzip); ${INITIAL_MAX} are allowed: ${[...initial].join(' ')}`);
  process.exit(1);
}

const arrays = [];
const rows = [];
function add(path, content, gzip) {
  const type = TYPES[extname(path)];
  if (!type) throw new Error(`pack: what type is ${path}?`);
  const tag = createHash('sha256').update(content).digest('hex').slice(0, 24);
  const name = `ui_bytes_${arrays.length}`;
  const text = [...content].join(',').replace(/(.{110}[^,]*,)/g, '$1\n');
  arrays.push(`static const unsigned char ${name}[] = {\n${text}};\n`);
  rows.push(`    {"${path}", "${type}", "\\"${tag}\\"", ${gzip}, ${name}, sizeof ${name}},\n`);
}
for (const [path, content] of packed) {
  add(path, content, true);
  if (!path.startsWith('/assets/')) add(path, files.get(path), false);
}
const header = `${arrays.join('')}static const ui_file ui_files[] = {\n${rows.join('')}    {0},\n};\n`;

const output = process.argv[2];
let before = '';
try {
  before = readFileSync(output, 'utf8');
} catch {
  mkdirSync(dirname(output), { recursive: true });
}
if (before !== header) writeFileSync(output, header);
const all = [...packed.values()].reduce((sum, b) => sum + b.length, 0);
console.log(`web page: ${(bytes / 1024).toFixed(1)} KiB at a first visit, ${(all / 1024).toFixed(1)} KiB in all (gzip)`);
