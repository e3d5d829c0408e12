import { useRef, useState, type ComponentType } from 'react';
import { useT } from '@/i18n';
import { CompletionPlayground } from './CompletionPlayground';
import { EmbeddingsPlayground } from './EmbeddingsPlayground';
import { VisionPlayground } from './VisionPlayground';

const TABS = ['completion', 'embeddings', 'vision'] as const;
type Tab = (typeof TABS)[number];
const panels: Record<Tab, ComponentType> = {
  completion: CompletionPlayground,
  embeddings: EmbeddingsPlayground,
  vision: VisionPlayground,
};

/** Models without a chat around them. */
export default function PlaygroundPage() {
  const t = useT();
  const [tab, setTab] = useState<Tab>('completion');
  const list = useRef<HTMLDivElement>(null);
  const Shown = panels[tab];
  const move = (by: number) => {
    const next = (TABS.indexOf(tab) + by + TABS.length) % TABS.length;
    setTab(TABS[next] ?? tab);
    list.current?.querySelectorAll('button')[next]?.focus();
  };
  return (
    <div className="h-full overflow-auto">
      <div className="mx-auto flex max-w-5xl flex-col gap-4 p-4">
        <h1 className="text-xl font-semibold">{t('nav.playground')}</h1>
        <div
          ref={list}
          role="tablist"
          aria-label={t('nav.playground')}
          className="flex gap-1 border-b border-line"
          onKeyDown={({ key }) => {
            if (key === 'ArrowRight') move(1);
            else if (key === 'ArrowLeft') move(-1);
          }}
        >
          {TABS.map((one) => (
            <button
              key={one}
              type="button"
              role="tab"
              id={`tab-${one}`}
              aria-selected={one === tab}
              aria-controls="playground-panel"
              tabIndex={one === tab ? 0 : -1}
              onClick={() => setTab(one)}
              className={`border-b-2 px-3 py-1.5 ${one === tab ? 'border-accent font-medium' : 'border-transparent text-muted'}`}
            >
              {t(`playground.${one}`)}
            </button>
          ))}
        </div>
        <div id="playground-panel" role="tabpanel" aria-labelledby={`tab-${tab}`}>
          <Shown />
        </div>
      </div>
    </div>
  );
}
