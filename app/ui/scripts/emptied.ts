// A component without its body, for the check that a test notices (scripts/empty.mjs).
import ts from 'typescript';
import type { Plugin } from 'vite';

/** The source with a component that draws nothing; undefined: it has none of this name. */
export function emptied(source: string, name: string): string | undefined {
  const file = ts.createSourceFile(`${name}.tsx`, source, ts.ScriptTarget.Latest, true, ts.ScriptKind.TSX);
  const bodies: ts.Block[] = [];
  const look = (node: ts.Node) => {
    if ((ts.isFunctionDeclaration(node) || ts.isFunctionExpression(node)) && node.name?.text === name && node.body) bodies.push(node.body);
    ts.forEachChild(node, look);
  };
  look(file);
  const [body] = bodies;
  return body && `${source.slice(0, body.getStart(file))}{ return null; }${source.slice(body.end)}`;
}

/** For vitest: empties the component of this name. */
export const emptiedPlugin = (name: string | undefined): Plugin => ({
  name: 'emptied',
  enforce: 'pre',
  transform(source, id) {
    if (!name || !id.includes('/src/components/') || !id.split('?')[0]?.endsWith(`/${name}.tsx`)) return undefined;
    const code = emptied(source, name);
    if (code === undefined) throw new Error(`${id} has no component ${name}`);
    return { code, map: null };
  },
});
