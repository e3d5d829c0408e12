import { useRef } from 'react';
import type { UiAttachmentFields } from '@/api/schema';
import { Button } from '@/components/ui/Button';
import { Icon } from '@/components/ui/Icon';
import { useT } from '@/i18n';
import { showError } from '@/stores/toasts';

const CHARACTERS_MAX = 2_000_000;
/** No character takes more. */
const UTF8_MAX = 4;

/** A file as text; anything that is none is refused by name. */
export async function readTextFile(file: File): Promise<UiAttachmentFields> {
  const tooLong = new Error(`${file.name}: more than ${CHARACTERS_MAX} characters`);
  // What cannot be taken is not read: a film, perhaps.
  if (file.size > UTF8_MAX * CHARACTERS_MAX) throw tooLong;
  const bytes = new Uint8Array(await file.arrayBuffer());
  let content: string;
  try {
    content = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    throw new Error(`${file.name}: not a text file`);
  }
  if (content.includes('\0')) throw new Error(`${file.name}: not a text file`);
  if (content.length > CHARACTERS_MAX) throw tooLong;
  return { name: file.name, type: file.type || 'text/plain', content };
}

/** Of pictures it is said that no model here can see them: none is taken that nobody would look at. */
export function useFileReader(onFiles: (files: UiAttachmentFields[]) => void): (files: readonly File[]) => void {
  const t = useT();
  return (files) => {
    const picture = files.find(({ type }) => type.startsWith('image/'));
    if (picture) showError(new Error(t('chat.no_images', { name: picture.name })));
    else Promise.all(files.map(readTextFile)).then(onFiles).catch(showError);
  };
}

export function AttachmentButton({ onFiles }: { onFiles: (files: UiAttachmentFields[]) => void }) {
  const t = useT();
  const read = useFileReader(onFiles);
  const input = useRef<HTMLInputElement>(null);
  return (
    <>
      <input
        ref={input}
        type="file"
        multiple
        hidden
        aria-label={t('chat.attach')}
        onChange={({ currentTarget }) => {
          const files = [...(currentTarget.files ?? [])];
          currentTarget.value = '';
          read(files);
        }}
      />
      <Button look="ghost" aria-label={t('chat.attach')} title={t('chat.attach')} onClick={() => input.current?.click()}>
        <Icon name="attach" className="size-5" />
      </Button>
    </>
  );
}
