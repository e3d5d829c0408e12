import { Command } from 'cmdk';
import { useState } from 'react';
import { Dialog } from '@/components/ui/Dialog';
import { useChats } from '@/hooks/useChats';
import { canChat, useModels } from '@/hooks/useModels';
import { LANGUAGES, useT } from '@/i18n';
import { PAGES, useNavigation } from '@/stores/navigation';
import { THEMES, useChangeSettings } from '@/stores/preferences';

interface Entry {
  id: string;
  label: string;
  run: () => void;
}

/** Fuzzy search over actions, models and chats. */
export default function CommandPalette({ onClose }: { onClose: () => void }) {
  const t = useT();
  const go = useNavigation((navigation) => navigation.go);
  const change = useChangeSettings();
  const { rows = [] } = useModels();
  const { chats } = useChats({});
  const [text, setText] = useState('');

  const groups: { label: string; entries: Entry[] }[] = [
    {
      label: t('palette.actions'),
      entries: [
        { id: 'new-chat', label: t('chat.new'), run: () => go({ page: 'chat', id: null }) },
        ...PAGES.map((page) => ({
          id: `go-${page}`,
          label: t('palette.go', { page: t(`nav.${page}`) }),
          run: () => go({ page }),
        })),
        ...THEMES.map((theme) => ({
          id: `theme-${theme}`,
          label: `${t('theme')}: ${t(`theme.${theme}`)}`,
          run: () => change({ theme }),
        })),
        ...Object.entries(LANGUAGES).map(([code, name]) => ({
          id: `language-${code}`,
          label: `${t('language')}: ${name}`,
          run: () => change({ language: code }),
        })),
      ],
    },
    {
      label: t('nav.models'),
      entries: rows.flatMap((row) => {
        const { name, why_not } = row;
        const use = { id: `use-${name}`, label: t('palette.use', { name }), run: () => change({ default_model: name }) };
        const see = { id: `show-${name}`, label: t('palette.show', { name }), run: () => go({ page: 'models', name }) };
        return why_not ? [] : canChat(row) ? [use, see] : [see];
      }),
    },
    {
      label: t('chat.chats'),
      entries: chats.map((chat) => ({
        id: `chat-${chat.id}`,
        label: chat.title || t('chat.untitled'),
        run: () => go({ page: 'chat', id: chat.id }),
      })),
    },
  ];

  return (
    <Dialog label={t('palette.open')} onClose={onClose}>
      <Command label={t('palette.open')}>
        <Command.Input
          autoFocus
          value={text}
          onValueChange={setText}
          placeholder={t('palette.placeholder')}
          className="w-full border-b border-line bg-transparent px-4 py-3 outline-none"
        />
        <Command.List className="max-h-[55vh] overflow-auto p-2">
          {groups
            .filter((group) => group.entries.length)
            .map((group) => (
              <Command.Group key={group.label} heading={group.label} className="text-sm text-muted">
                {group.entries.map((entry) => (
                  <Command.Item
                    key={entry.id}
                    value={`${entry.label} ${entry.id}`}
                    onSelect={() => {
                      onClose();
                      entry.run();
                    }}
                    className="cursor-pointer rounded-md px-3 py-2 text-base text-text data-[selected=true]:bg-accent-soft"
                  >
                    {entry.label}
                  </Command.Item>
                ))}
              </Command.Group>
            ))}
        </Command.List>
        {/* Outside of the list, which has commands only. */}
        <Command.Empty className="p-4 pt-0 text-center text-muted">{t('palette.nothing')}</Command.Empty>
      </Command>
    </Dialog>
  );
}
