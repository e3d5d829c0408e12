import { Component, type ErrorInfo, type ReactNode } from 'react';
import { Button } from '@/components/ui/Button';
import { useTexts } from '@/i18n';

interface Props {
  /** Another value: another try. */
  at: string;
  children: ReactNode;
  /** What is put around the words of a failure; none: nothing. */
  frame?: (words: ReactNode) => ReactNode;
  /** There is no rest of the page. */
  whole?: boolean;
}

/** A part of the page that fails takes nothing else with it, and says what it was. Chats lie on the server: nothing is lost. */
export class ErrorBoundary extends Component<Props, { error: Error | null; at: string }> {
  override state = { error: null, at: this.props.at };

  static getDerivedStateFromError(error: unknown) {
    return { error: error instanceof Error ? error : new Error(String(error)) };
  }

  static getDerivedStateFromProps(props: Props, state: { at: string }) {
    return props.at === state.at ? null : { error: null, at: props.at };
  }

  override componentDidCatch(error: Error, info: ErrorInfo) {
    console.error(error.message, info.componentStack);
  }

  override render(): ReactNode {
    const error = this.state.error as Error | null;
    const { t } = useTexts.getState();
    const { children, frame, whole } = this.props;
    if (!error) return children;
    // A part of the page that was loaded later is gone from a newer program: its own page has the new one.
    const stale = /dynamically imported module|Importing a module|module script/i.test(error.message);
    const words = (
      <div role="alert" className="mx-auto flex max-w-xl flex-col items-start gap-3 p-8">
        <h1 className="text-xl font-semibold">{t('error.title')}</h1>
        <p>{t(stale ? 'error.stale' : whole ? 'error.whole' : 'error.text')}</p>
        <pre className="max-h-60 w-full overflow-auto rounded-md bg-code p-3 text-xs whitespace-pre-wrap" tabIndex={0}>
          {error.stack ?? error.message}
        </pre>
        <div className="flex gap-2">
          <Button look="primary" onClick={() => location.reload()}>
            {t('error.reload')}
          </Button>
          {!stale && <Button onClick={() => this.setState({ error: null })}>{t('error.again')}</Button>}
        </div>
      </div>
    );
    return frame ? frame(words) : words;
  }
}
