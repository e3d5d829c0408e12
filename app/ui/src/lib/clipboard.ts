// Browsers give the clipboard to pages over https and of this machine only. Elsewhere the old way has to do: the page takes part in
// a copy that it asks for itself.

export async function copyText(text: string): Promise<void> {
  // Not there over plain http, whatever the types say.
  const clipboard = navigator.clipboard as Clipboard | undefined;
  try {
    if (clipboard) {
      await clipboard.writeText(text);
      return;
    }
  } catch {
    // Refused: the old way may be allowed.
  }
  const taken: string[] = [];
  const give = (event: ClipboardEvent) => {
    event.clipboardData?.setData('text/plain', text);
    event.preventDefault();
    event.stopImmediatePropagation();
    taken.push(text);
  };
  document.addEventListener('copy', give, { capture: true });
  // eslint-disable-next-line @typescript-eslint/no-deprecated
  const done = document.execCommand('copy');
  document.removeEventListener('copy', give, { capture: true });
  if (!done || taken.length === 0) throw new Error('the browser does not let this page copy');
}
