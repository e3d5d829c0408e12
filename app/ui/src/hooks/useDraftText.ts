// A text that somebody writes, of a value that lies elsewhere: what is written stays until the value itself becomes another one.
import { useState } from 'react';

export function useDraftText(value: string): [string, (text: string) => void] {
  const [seen, setSeen] = useState(value);
  const [text, setText] = useState(value);
  if (seen !== value) {
    setSeen(value);
    setText(value);
  }
  return [text, setText];
}
