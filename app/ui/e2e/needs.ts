// What the tests in a browser take: the program, Chromium and the default model, and what is said where one of them is not there.
import { existsSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';

export const program = process.env.MLXR_BIN ?? '';
export const MODEL = 'SmolLM2-135M-Instruct.Q4_1';

export function modelFile(): string {
  const data = process.env.XDG_DATA_HOME ?? join(homedir(), '.local', 'share');
  const folder = process.env.MLXR_MODELS ?? join(data, 'mlxr', 'models');
  return join(folder, `${MODEL}.gguf`);
}

export const chromiumPath = [process.env.MLXR_CHROMIUM ?? '', '/usr/bin/chromium', '/usr/bin/chromium-browser'].find(
  (path) => path !== '' && existsSync(path),
);

/** Before all tests: without what they take they are skipped, which is said, and told by the exit code that ctest knows. */
export default function setup(): void {
  const reason = !existsSync(program)
    ? `there is no program at MLXR_BIN="${program}"; \`make build\` makes one, \`tools/ui browser PROGRAM\` tests it`
    : !chromiumPath
      ? 'there is no Chromium; `tools/setup test` installs it, or MLXR_CHROMIUM names one'
      : !existsSync(modelFile())
        ? `there is no ${modelFile()}; \`make models\` gets it`
        : '';
  if (!reason) return;
  console.error(`The web page was not tested in a browser: ${reason}.`);
  process.exit(77);
}
