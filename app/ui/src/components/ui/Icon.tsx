// The page's own signs, as lines in a square of 24: no font of them is needed, and they take the colour of the text.
const paths = {
  attach: 'M8 12.5l5.8-5.8a3 3 0 0 1 4.3 4.3l-7.6 7.6a5 5 0 0 1-7-7l7.2-7.3',
  back: 'M15 5l-7 7 7 7',
  close: 'M6 6l12 12M18 6L6 18',
  down: 'M6 9l6 6 6-6',
  file: 'M6 3h8l4 4v14H6zM14 3v4h4',
  folder: 'M3 6h6l2 2.5h10V19H3z',
  forward: 'M9 5l7 7-7 7',
  image: 'M4 5h16v14H4zM4 16l5-5 4 4 2.5-2.5L20 17M15.5 9h.01',
  menu: 'M4 7h16M4 12h16M4 17h16',
  model: 'M12 3l8 4.5v9L12 21l-8-4.5v-9zM4 7.5l8 4.5 8-4.5M12 12v9',
  more: 'M5 12h.01M12 12h.01M19 12h.01',
  pin: 'M9 3h6l-1 6 3 3v2H7v-2l3-3zM12 14v7',
  upload: 'M12 15V4M7 8.500l5-5 5 5M5 20h14',
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
