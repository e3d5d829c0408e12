import { useState } from 'react';
import { useT } from '@/i18n';
import { copyText } from '@/lib/clipboard';
import { showError } from '@/stores/toasts';
import { Button } from './Button';

/** Says when it has copied, and when it could not. */
export function CopyButton({ text }: { text: string }) {
  const t = useT();
  const [copied, setCopied] = useState(false);
  return (
    <Button
      small
      look="ghost"
      onClick={() => {
        copyText(text)
          .then(() => {
            setCopied(true);
            setTimeout(() => setCopied(false), 1500);
          })
          .catch(showError);
      }}
    >
      {t(copied ? 'copied' : 'copy')}
    </Button>
  );
}
