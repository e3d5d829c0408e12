// The page's own signs, as lines in a square of 24: no font of them is needed, and they take the colour of the text.
const paths = {
  attach: 'M8 12.5l5.8-5.8a3 3 0 0 1 4.3 4.3l-7.6 7.6a5 5 0 0 1-7-7l7.2-7.3',
  back: 'M15 5l-7 7 7 7',
  branch: 'M6 3v12a4 4 0 0 0 4 4h8M6 9h6a4 4 0 0 1 4 4',
  chart: 'M4 20V4M4 20h16M8 16v-4M12.5 16V8M17 16v-6',
  chat: 'M4 5h16v11H10l-4.5 4V16H4z',
  check: 'M5 12.5l4.5 4.5L19 7.5',
  close: 'M6 6l12 12M18 6L6 18',
  columns: 'M4 5h16v14H4zM12 5v14',
  copy: 'M9 9h11v11H9zM15 9V4H4v11h5',
  down: 'M6 9l6 6 6-6',
  download: 'M12 4v11M7 10.5l5 5 5-5M5 20h14',
  edit: 'M5 19l1-4L16.5 4.5l3 3L9 18z',
  file: 'M6 3h8l4 4v14H6zM14 3v4h4',
  flask: 'M9 3h6M10 3v6l-5.5 10a1.3 1.3 0 0 0 1.2 2h12.6a1.3 1.3 0 0 0 1.2-2L14 9V3M7.5 15h9',
  folder: 'M3 6h6l2 2.5h10V19H3z',
  forward: 'M9 5l7 7-7 7',
  gear: 'M12 9a3 3 0 1 0 0 6 3 3 0 0 0 0-6zM12 2.5v3M12 18.5v3M2.5 12h3M18.5 12h3M5.3 5.3l2.1 2.1M16.6 16.6l2.1 2.1M5.3 18.7l2.1-2.1M16.6 7.4l2.1-2.1',
  image: 'M4 5h16v14H4zM4 16l5-5 4 4 2.5-2.5L20 17M15.5 9h.01',
  list: 'M4 6h16M4 12h16M4 18h10',
  menu: 'M4 7h16M4 12h16M4 17h16',
  model: 'M12 3l8 4.5v9L12 21l-8-4.5v-9zM4 7.5l8 4.5 8-4.5M12 12v9',
  more: 'M5 12h.01M12 12h.01M19 12h.01',
  pause: 'M8 5v14M16 5v14',
  pin: 'M9 3h6l-1 6 3 3v2H7v-2l3-3zM12 14v7',
  play: 'M7 4.5l12 7.5-12 7.5z',
  plus: 'M12 5v14M5 12h14',
  power: 'M12 3v9M6.5 7a8 8 0 1 0 11 0',
  redo: 'M19 12a7 7 0 1 1-2-4.9L19 9M19 4v5h-5',
  remove: 'M4 7h16M9 7V4h6v3M6 7l1 13h10l1-13M10 11v5M14 11v5',
  search: 'M10.5 4a6.5 6.5 0 1 0 0 13 6.5 6.5 0 0 0 0-13zM15.5 15.5L20 20',
  send: 'M12 19V5M6 11l6-6 6 6',
  sliders: 'M4 7h10M18 7h2M16 5v4M4 17h2M10 17h10M8 15v4',
  stop: 'M7 7h10v10H7z',
  tool: 'M14.5 6.5a4 4 0 0 1 5-2l-2.7 2.7 1 2 2 .2L21 6.500a4 4 0 0 1-5.500 5L7 20l-3-3 8.500-8.500a4 4 0 0 1 2-2z',
  upload: 'M12 15V4M7 8.500l5-5 5 5M5 20h14',
  warn: 'M12 4L2.500 20h19zM12 10v4.500M12 17.500h.01',
} as const;

export type IconName = keyof typeof paths;

/** Only a picture: what it means is told by the text or the name of what it is in. */
export function Icon({ name, className = '' }: { name: IconName; className?: string }) {
  return (
    <svg viewBox="0 0 24 24" aria-hidden="true" className={`size-[1.15em] shrink-0 fill-none stroke-current stroke-[1.75] ${className}`}>
      <path d={paths[name]} strokeLinecap="round" strokeLinejoin="round" />
    </svg>
  );
}
