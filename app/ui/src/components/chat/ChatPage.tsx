import { useState } from 'react';
import { Button } from '@/components/ui/Button';
import { Icon } from '@/components/ui/Icon';
import { useT } from '@/i18n';
import { useNavigation } from '@/stores/navigation';
import { useChangeSettings, useSetting } from '@/stores/preferences';
import { ChatPane } from './ChatPane';
import { ConversationList } from './ConversationList';

export default function ChatPage() {
  const t = useT();
  const id = useNavigation((navigation) => navigation.place.id);
  const beside = useSetting('sidebar');
  const change = useChangeSettings();
  // On a small screen the list lies over the chat until another one is chosen; elsewhere it is beside it, or not, as somebody left it.
  const [listAt, setListAt] = useState<number | null | false>(false);
  const over = listAt === id;
  const list = (
    <>
      <Button small look="ghost" className="md:hidden" aria-expanded={over} onClick={() => setListAt(over ? false : id)}>
        <Icon name="menu" /> {t('chat.chats')}
      </Button>
      <Button
        small
        look="ghost"
        className="max-md:hidden"
        aria-label={t('chat.list')}
        aria-expanded={beside}
        onClick={() => change({ sidebar: !beside })}
      >
        <Icon name="menu" />
      </Button>
    </>
  );
  return (
    <div className={`relative grid h-full ${beside ? 'md:grid-cols-[17rem_1fr]' : ''}`}>
      <div
        className={`${over ? 'absolute inset-y-0 start-0 z-10 w-72' : 'hidden'} ${beside ? 'md:static md:block md:w-auto' : 'md:hidden'}`}
      >
        <ConversationList />
      </div>
      <div className="h-full min-h-0 min-w-0">
        <ChatPane id={id} lead={list} />
      </div>
    </div>
  );
}
