// Server-sent events from a fetch: EventSource can neither send a key nor a body.
export interface ServerEvent {
  event: string;
  data: string;
  id: string;
}

/** Takes text in pieces of any size, gives whole events. */
export class EventParser {
  private rest = '';
  private event = '';
  private data: string[] = [];
  private id = '';

  push(text: string): ServerEvent[] {
    const found: ServerEvent[] = [];
    const buffer = this.rest + text;
    let at = 0;
    for (;;) {
      const end = buffer.slice(at).search(/\r\n|\n|\r/);
      // A CR at the very end may be half of CR LF.
      if (end < 0 || (buffer[at + end] === '\r' && at + end + 1 === buffer.length)) break;
      this.line(buffer.slice(at, at + end), found);
      at += end + (buffer.startsWith('\r\n', at + end) ? 2 : 1);
    }
    this.rest = buffer.slice(at);
    return found;
  }

  private line(line: string, found: ServerEvent[]): void {
    if (line === '') {
      if (this.data.length) found.push({ event: this.event || 'message', data: this.data.join('\n'), id: this.id });
      this.event = '';
      this.data = [];
      return;
    }
    const colon = line.indexOf(':');
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? '' : line.slice(colon + 1).replace(/^ /, '');
    if (field === 'event') this.event = value;
    else if (field === 'data') this.data.push(value);
    else if (field === 'id') this.id = value;
  }
}

export async function* readEvents(body: ReadableStream<Uint8Array>): AsyncGenerator<ServerEvent, void> {
  const parser = new EventParser();
  const decoder = new TextDecoder();
  const reader = body.getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      yield* parser.push(decoder.decode(value, { stream: true }));
    }
  } finally {
    await reader.cancel().catch(() => undefined);
  }
}
