import { useState } from 'react';
import { Button } from '@/components/ui/Button';
import { useModelActions, useModels } from '@/hooks/useModels';
import { useT } from '@/i18n';
import { whenConfirmed } from '@/stores/confirmation';

/** Further names that lead to a model: new ones, and their end. The model stays as it is. */
export function ModelNames({ name }: { name: string }) {
  const t = useT();
  const { rows = [] } = useModels();
  const { alias, unalias } = useModelActions();
  const [text, setText] = useState('');
  const target = rows.find((row) => row.name === name)?.alias_of ?? name;
  const names = rows.filter((row) => row.alias_of === target).map((row) => row.name);
  return (
    <section aria-label={t('alias.title')} className="border-t border-line pt-2">
      <h3 className="font-medium">{t('alias.title')}</h3>
      {target !== name && <p className="text-sm text-muted">{t('alias.of', { name: target })}</p>}
      <ul>
        {names.map((one) => (
          <li key={one} className="flex items-center gap-2 py-1 text-sm">
            <span className="grow break-all">{one}</span>
            <Button small look="ghost" aria-label={t('alias.remove', { name: one })} disabled={unalias.isPending} onClick={() => whenConfirmed(one, () => unalias.mutate(one))}>
              {t('remove')}
            </Button>
          </li>
        ))}
      </ul>
      <form
        className="flex gap-2 pt-1"
        onSubmit={(event) => {
          event.preventDefault();
          alias.mutate({ from: target, to: text.trim() }, { onSuccess: () => setText('') });
        }}
      >
        <input
          aria-label={t('alias.new')}
          placeholder={t('alias.new')}
          value={text}
          onChange={({ target: box }) => setText(box.value)}
          spellCheck={false}
          className="min-w-0 grow rounded-md border border-line bg-ground px-3 py-1.5 text-sm"
        />
        <Button small type="submit" disabled={!text.trim() || alias.isPending}>
          {t('alias.add')}
        </Button>
      </form>
    </section>
  );
}
