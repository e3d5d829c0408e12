// How often an answer is drawn: some times a second, and a tenth of the time at most.
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { Pace, PAUSE_MAX_MS, PAUSE_MS, SHARE } from '@/lib/pace';

const FRAME_MS = 16;

describe('what is shown now and then', () => {
  beforeEach(() => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'requestAnimationFrame', 'cancelAnimationFrame', 'performance'] });
  });
  afterEach(() => {
    vi.useRealTimers();
    vi.restoreAllMocks();
  });

  /** Asked every 5 ms for so long, with a drawing that takes `cost`; the times of it. */
  const shownIn = (ms: number, cost = 0): number[] => {
    const times: number[] = [];
    const timers = performance.now.bind(performance);
    let taken = 0;
    const now = () => timers() + taken;
    vi.spyOn(performance, 'now').mockImplementation(now);
    const pace = new Pace(() => {
      times.push(now());
      taken += cost;
    });
    for (const end = now() + ms; now() < end; ) {
      pace.ask();
      vi.advanceTimersByTime(5);
    }
    return times;
  };

  it('is shown at the next frame where nothing was for a while', () => {
    const begun = performance.now();
    expect((shownIn(40)[0] ?? Infinity) - begun).toBeLessThanOrEqual(FRAME_MS + 5);
  });
  it('is shown fifteen times a second, however often something comes', () => {
    const times = shownIn(3000);
    expect(times.length).toBeLessThanOrEqual(3000 / PAUSE_MS + 1);
    expect(times.length).toBeGreaterThan(3000 / (PAUSE_MS + 2 * FRAME_MS));
  });
  it('is shown less often where that takes long: a tenth of the time', () => {
    const cost = 30;
    const times = shownIn(6000, cost);
    expect(times.length * cost * SHARE).toBeLessThanOrEqual(6000 + 2 * cost * SHARE);
    expect(times.length).toBeGreaterThan(6000 / (cost * SHARE + 3 * FRAME_MS) - 1);
  });
  it('is shown once a second in a page that nobody sees, which has no frames', () => {
    vi.spyOn(document, 'hidden', 'get').mockReturnValue(true);
    vi.stubGlobal('requestAnimationFrame', () => expect.unreachable());
    expect(shownIn(4 * PAUSE_MAX_MS + 100)).toHaveLength(4);
    vi.unstubAllGlobals();
  });

  describe('in a page that comes and goes', () => {
    let hidden = false;
    const turn = (to: boolean) => {
      hidden = to;
      document.dispatchEvent(new Event('visibilitychange'));
    };
    const show = vi.fn();
    let pace = new Pace(show);
    beforeEach(() => {
      hidden = false;
      vi.spyOn(document, 'hidden', 'get').mockImplementation(() => hidden);
      show.mockReset();
      pace = new Pace(show);
    });

    it('is shown if the page was hidden before the frame that it had asked for, which never comes', () => {
      vi.stubGlobal('requestAnimationFrame', () => 1);
      pace.ask();
      turn(true);
      expect(show).toHaveBeenCalledTimes(1);
      pace.ask(); // and goes on
      vi.advanceTimersByTime(PAUSE_MAX_MS);
      expect(show).toHaveBeenCalledTimes(2);
      vi.unstubAllGlobals();
    });
    it('is shown at once when the page is seen again, and once', () => {
      hidden = true;
      pace.ask();
      vi.advanceTimersByTime(100);
      expect(show).not.toHaveBeenCalled();
      turn(false);
      expect(show).toHaveBeenCalledTimes(1);
      vi.advanceTimersByTime(2 * PAUSE_MAX_MS);
      expect(show).toHaveBeenCalledTimes(1);
    });
    it('is not shown where nothing was asked for, and listens to nothing then', () => {
      const added = vi.spyOn(document, 'addEventListener');
      const removed = vi.spyOn(document, 'removeEventListener');
      pace.ask();
      vi.advanceTimersByTime(FRAME_MS);
      expect(show).toHaveBeenCalledTimes(1);
      turn(true);
      turn(false);
      expect(show).toHaveBeenCalledTimes(1);
      expect(added.mock.calls).toEqual(removed.mock.calls);
    });
    it('shows the end at once, even while something is asked for, and not again', () => {
      pace.ask();
      vi.advanceTimersByTime(FRAME_MS);
      pace.ask(); // waits
      pace.now();
      expect(show).toHaveBeenCalledTimes(2);
      vi.advanceTimersByTime(2 * PAUSE_MAX_MS);
      turn(true);
      expect(show).toHaveBeenCalledTimes(2);
    });
  });
});
