import type { UiToolCall } from '@/api/schema';
import { useT } from '@/i18n';

function pretty(text: string): string {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

/** A tool that was called: its arguments, and what it answered. */
export function ToolCallView({ call, result }: { call: UiToolCall; result?: string | undefined }) {
  const t = useT();
  return (
    <details className="my-2 rounded-lg border border-line bg-panel px-3 py-2 text-sm">
      <summary className="cursor-pointer">
        {t('tool.called')} <code className="font-mono font-medium">{call.function.name}</code>
        {result === undefined && <span className="ps-2 text-muted">{t('tool.waiting')}</span>}
      </summary>
      <p className="mt-2 text-muted">{t('tool.arguments')}</p>
      <pre className="overflow-x-auto rounded bg-code p-2 text-xs">{pretty(call.function.arguments)}</pre>
      {result !== undefined && (
        <>
          <p className="mt-2 text-muted">{t('tool.result')}</p>
          <pre className="max-h-80 overflow-auto rounded bg-code p-2 text-xs">{pretty(result)}</pre>
        </>
      )}
    </details>
  );
}
