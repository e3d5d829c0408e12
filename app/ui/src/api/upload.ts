// A file as the body of a request, with progress, which fetch does not tell.
import { addressOf, ApiError, authorization, type CallOptions, type Route } from './client';

export function upload<R extends Route>(
  route: R,
  file: Blob,
  options: CallOptions<R> & { onProgress?: (done: number) => void },
): Promise<unknown> {
  const { method, url } = addressOf(route, options);
  return new Promise((resolve, reject) => {
    const ask = new XMLHttpRequest();
    const fail = (message: string, code: string | null = null) => reject(new ApiError(ask.status, message, code));
    ask.open(method, url);
    ask.setRequestHeader('Accept', 'application/json');
    ask.setRequestHeader('Content-Type', 'application/octet-stream');
    const key = authorization();
    if (key) ask.setRequestHeader('Authorization', key);
    ask.upload.onprogress = ({ loaded }) => options.onProgress?.(loaded);
    ask.onload = () => {
      try {
        const answer = JSON.parse(ask.responseText) as { error?: { message: string; code?: string | null } };
        if (ask.status < 300) resolve(answer);
        else fail(answer.error?.message ?? `HTTP ${ask.status}`, answer.error?.code ?? null);
      } catch {
        fail(ask.responseText.slice(0, 200) || `HTTP ${ask.status}`);
      }
    };
    ask.onerror = () => fail('the connection broke');
    ask.onabort = () => reject(new DOMException('stopped', 'AbortError'));
    options.signal?.addEventListener('abort', () => ask.abort());
    ask.send(file);
  });
}
