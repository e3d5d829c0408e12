// A file as the body of a request, with progress, which fetch does not tell.
import { addressOf, ApiError, authorization, errorOf, type CallOptions, type Route } from './client';

export function upload<R extends Route>(
  route: R,
  file: Blob,
  options: CallOptions<R> & { onProgress?: (done: number) => void },
): Promise<unknown> {
  const { method, url } = addressOf(route, options);
  return new Promise((resolve, reject) => {
    const ask = new XMLHttpRequest();
    ask.open(method, url);
    ask.setRequestHeader('Accept', 'application/json');
    ask.setRequestHeader('Content-Type', 'application/octet-stream');
    const key = authorization();
    if (key) ask.setRequestHeader('Authorization', key);
    ask.upload.onprogress = ({ loaded }) => options.onProgress?.(loaded);
    ask.onload = () => {
      try {
        if (ask.status < 300) {
          resolve(JSON.parse(ask.responseText));
          return;
        }
      } catch {
        // Not JSON: that is told as a failure is.
      }
      reject(errorOf(ask.status, ask.responseText));
    };
    ask.onerror = () => reject(new ApiError(ask.status, 'the connection broke'));
    ask.onabort = () => reject(new DOMException('stopped', 'AbortError'));
    options.signal?.addEventListener('abort', () => ask.abort());
    ask.send(file);
  });
}
