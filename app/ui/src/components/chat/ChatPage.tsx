import { useState } from 'react';
import { Button } from '@/components/ui/Button';
import { Icon } from '@/components/ui/Icon';
import { useT } from '@/i18n';
import { useNavigation } from '@/stores/navigation';
import { ChatPane } from './ChatPane';
import { ConversationList } from './ConversationList';

export default function ChatPage() {
  const t = useT();
  const id = useNavigation((navigation) => navigation.place.id);
  // On a small screen the list lies over the chat until another one is chosen.
  const [listAt, setListAt] = useState<number | null | false>(false);
  const list = listAt === id;
  return (
    <div className="relative grid h-full md:grid-cols-[17rem_1fr]">
      <div className={`${list ? 'absolute inset-y-0 start-0 z-10 w-72' : 'hidden'} md:static md:block md:w-auto`}>
        <ConversationList />
      </div>
      <div className="flex h-full min-h-0 min-w-0 flex-col">
        <Button small look="ghost" className="self-start md:hidden" aria-expanded={list} onClick={() => setListAt(list ? false : id)}>
          <Icon name="menu" /> {t('chat.chats')}
        </Button>
        <div className="min-h-0 grow">
          <ChatPane id={id} />
        </div>
      </div>
    </div>
  );
}
