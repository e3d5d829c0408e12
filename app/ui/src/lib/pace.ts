// How often an answer that grows is drawn. Each time takes the browser some milliseconds of the cores that the model computes on, whether
// one word came or ten: sixty times a second took two fifths of a core of two.

/** From one time to the next, at least. */
export const PAUSE_MS = 66;
/** At most: it should look alive even where a machine is slow. */
export const PAUSE_MAX_MS = 1000;
/** Of the time, the part that drawing may take is one of so many. */
export const SHARE = 10;

/** Asked as often as one likes, it shows what is new now and then: at the next frame, if it has not for a while. */
export class Pace {
  private asked = false;
  /** When the next time may be, by performance.now(). */
  private next = 0;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private frame = 0;

  constructor(private readonly show: () => void) {}

  ask(): void {
    if (this.asked) return;
    this.asked = true;
    // A page that is hidden meanwhile has no frames to wait for, one that is seen again is not to look old.
    document.addEventListener('visibilitychange', this.now);
    const pause = document.hidden ? PAUSE_MAX_MS : this.next - performance.now();
    if (pause > 0) this.timer = setTimeout(() => this.atFrame(), pause);
    else this.atFrame();
  }

  /** Shows at once, and not again for what was asked before. */
  readonly now = (): void => {
    this.asked = false;
    document.removeEventListener('visibilitychange', this.now);
    clearTimeout(this.timer);
    cancelAnimationFrame(this.frame);
    const begun = performance.now();
    this.next = begun + PAUSE_MS;
    this.show();
    // Behind the frame: the browser's own work on what was shown counts, too.
    setTimeout(() => {
      const pause = Math.min((performance.now() - begun) * SHARE, PAUSE_MAX_MS);
      this.next = Math.max(this.next, begun + pause);
    });
  };

  /** Nobody sees the frames of a hidden page, which has none. */
  private atFrame(): void {
    if (document.hidden) this.now();
    else this.frame = requestAnimationFrame(this.now);
  }
}
