import { ModelActions } from '@/components/models/ModelActions';
import { ModelCard } from '@/components/models/ModelCard';
import { ModelDetailDrawer } from '@/components/models/ModelDetailDrawer';
import { ModelImport } from '@/components/models/ModelImport';
import { ModelPullDialog } from '@/components/models/ModelPullDialog';
import { ModelStats } from '@/components/models/ModelStats';
import { RegistryTable } from '@/components/models/RegistryTable';
import { sentFiles, type SentFile } from '../test/fixtures';
import { nothing, part, type Part } from './part';
import { choose, fill, found, press, sees, text } from './play';
import { advised, broken, details, health, inMemory, never, qwen, refused, rows, smol, tiny } from './world';

const file = new File([new Uint8Array(6 << 20)], 'Qwen3 4B (Q4_K_M).gguf');
const sent: SentFile[] = [];
const takesFiles = () => {
  sent.length = 0;
  window.XMLHttpRequest = sentFiles(sent) as never;
};
const imports = async () => {
  await choose(file);
  await press(text('import.do'));
  return (await found('file that is sent', () => sent[0])).ask;
};

export const models: Part[] = [
  part('models/RegistryTable', RegistryTable, {
    full: { props: { rows } },
    'nothing found': { props: { rows }, play: () => fill(text('models.filter'), 'llama 70b') },
    empty: { props: { rows: [] } },
  }),
  part('models/ModelCard', ModelCard, {
    full: { props: { entry: advised, onGet: nothing } },
    'a long name': {
      props: {
        entry: { ...tiny, name: 'DeepSeek-R1-Distill-Qwen-1.5B-Instruct-abliterated-v2', about: 'thinks at length before it answers, whatever it is asked, in English and Chinese' },
        onGet: nothing,
      },
    },
  }),
  part('models/ModelImport', ModelImport, {
    empty: { props: { onClose: nothing }, height: 560 },
    full: { props: { onClose: nothing }, play: () => choose(file), height: 560 },
    busy: {
      props: { onClose: nothing },
      before: takesFiles,
      play: async () => (await imports()).upload.onprogress?.({ loaded: 2.4 * (1 << 20) }),
      height: 620,
    },
    'a name that is taken': {
      props: { onClose: nothing },
      before: takesFiles,
      play: async () => (await imports()).answer(409, { error: { message: 'there is a model of this name', code: 'name_taken' } }),
      height: 620,
    },
    error: {
      props: { onClose: nothing },
      before: takesFiles,
      play: async () => (await imports()).answer(400, { error: { message: 'the file is no GGUF file: it begins with "PK"' } }),
      height: 620,
    },
  }),
  part('models/ModelPullDialog', ModelPullDialog, {
    full: { props: { onClose: nothing }, play: () => sees('qwen3:4b'), height: 520 },
    busy: { props: { onClose: nothing }, daemon: { 'GET /ui-api/catalogue': never }, height: 240 },
    error: {
      props: { onClose: nothing },
      daemon: { 'GET /ui-api/catalogue': refused(403, 'this key may not read') },
      play: () => sees('may not read'),
      height: 240,
    },
  }),
  part('models/ModelDetailDrawer', ModelDetailDrawer, {
    full: {
      props: { name: qwen.name, onClose: nothing },
      daemon: { [`GET /ui-api/models/${encodeURIComponent(qwen.name)}`]: details(qwen) },
      play: async () => {
        await press(text('details.template'));
        await press(text('details.types'));
      },
      height: 860,
    },
    'one that cannot be used': {
      props: { name: broken.name, onClose: nothing },
      daemon: { [`GET /ui-api/models/${broken.name}`]: { ...details(broken), fit: null, description: undefined } },
      play: () => sees(text('models.unusable')),
      height: 640,
    },
    busy: { props: { name: qwen.name, onClose: nothing }, daemon: { [`GET /ui-api/models/${encodeURIComponent(qwen.name)}`]: never }, height: 240 },
    error: {
      props: { name: 'mistral:7b', onClose: nothing },
      daemon: { 'GET /ui-api/models/mistral%3A7b': refused(404, 'there is no model mistral:7b') },
      play: () => sees('there is no model'),
      height: 240,
    },
  }),
  part('models/ModelStats', ModelStats, {
    full: { props: { rows, status: health } },
    empty: { props: { rows: [], status: undefined } },
  }),
  part('models/ModelActions', ModelActions, {
    'on disk': { props: { row: { ...smol, loaded: undefined } } },
    'in memory': { props: { row: { ...qwen, loaded: inMemory } } },
    busy: { props: { row: { ...smol, loaded: undefined } }, daemon: { 'POST /ui-api/models/load': never }, play: () => press(text('models.load')) },
    error: {
      props: { row: { ...qwen, loaded: undefined } },
      daemon: { 'POST /ui-api/models/load': refused(503, 'qwen3:4b needs 2.3 GiB, and 1.1 GiB are free') },
      play: async () => {
        await press(text('models.load'));
        await sees('are free');
      },
      height: 160,
    },
    'one that cannot be used': { props: { row: { ...broken, loaded: undefined } } },
  }),
];
