// Where we are: the path of the page. Pages are few, so that this is all a router has to do.
import { create } from 'zustand';

// /dashboard, since /metrics is the text for Prometheus.
export const PAGES = ['chat', 'models', 'logs', 'settings', 'dashboard', 'playground'] as const;
export type Page = (typeof PAGES)[number];

export interface Place {
  page: Page;
  /** Of a chat. */
  id: number | null;
  /** Of a model. */
  name: string | null;
}

/** Addresses that somebody has typed may hold a % that is none of an encoding: then it is one. */
function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

export function placeOf(path: string): Place {
  const [, page, ...rest] = path.split('/');
  const below = decoded(rest.join('/'));
  if (page === 'models') return { page, id: null, name: below || null };
  if (page === 'logs' || page === 'settings' || page === 'dashboard' || page === 'playground') return { page, id: null, name: null };
  const id = /^[1-9]\d{0,15}$/.test(below) ? Number(below) : null;
  return { page: 'chat', id, name: null };
}

export function pathOf(place: Partial<Place> & { page: Page }): string {
  const below = place.page === 'chat' ? place.id : place.name;
  return `/${place.page}${below === null || below === undefined ? '' : `/${encodeURIComponent(below)}`}`;
}

/** What counts when its field is left does so, too, where a key takes somebody elsewhere: the field goes without being left. */
function leaveField({ page, id }: Place, from: Place): void {
  const { activeElement: field } = document;
  if (page === from.page && id === from.id) return;
  if (field instanceof HTMLInputElement || field instanceof HTMLTextAreaElement) field.blur();
}

interface Navigation {
  place: Place;
  go: (place: Partial<Place> & { page: Page }, replace?: boolean) => void;
}

export const useNavigation = create<Navigation>((set, get) => ({
  place: placeOf(location.pathname),
  go: (place, replace = false) => {
    const path = pathOf(place);
    leaveField(placeOf(path), get().place);
    if (path !== location.pathname) history[replace ? 'replaceState' : 'pushState'](null, '', path);
    set({ place: placeOf(path) });
  },
}));

export function followHistory(): void {
  window.addEventListener('popstate', () => {
    const place = placeOf(location.pathname);
    leaveField(place, useNavigation.getState().place);
    useNavigation.setState({ place });
  });
}
