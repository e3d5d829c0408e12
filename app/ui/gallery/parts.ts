// All parts, in the order of the pages.
import { chat } from './chat';
import { layout } from './layout';
import { logs } from './logs';
import { metrics } from './metrics';
import { models } from './models';
import type { Part } from './part';
import { playground } from './playground';
import { settings } from './settings';

export const PARTS: readonly Part[] = [chat, models, settings, metrics, logs, playground, layout].flat();
