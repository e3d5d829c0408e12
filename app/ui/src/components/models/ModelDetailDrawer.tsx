import type { ReactNode } from 'react';
import { Button } from '@/components/ui/Button';
import { Icon } from '@/components/ui/Icon';
import { Dialog } from '@/components/ui/Dialog';
import { useModelDetails } from '@/hooks/useModels';
import { useT } from '@/i18n';
import { licenceOf, templateOf, typesOf } from '@/lib/description';
import { formatBytes, formatCount } from '@/lib/format';
import { KeepAlive } from './KeepAlive';
import { ModelNames } from './ModelNames';

function Row({ label, children }: { label: string; children: ReactNode }) {
  return (
    <>
      <dt className="text-muted">{label}</dt>
      <dd className="break-all">{children}</dd>
    </>
  );
}

function Text({ label, text }: { label: string; text: string | null }) {
  if (!text) return null;
  return (
    <details className="border-t border-line pt-2">
      <summary className="cursor-pointer font-medium">{label}</summary>
      <pre tabIndex={0} className="mt-2 max-h-80 overflow-auto rounded-md bg-code p-3 text-xs whitespace-pre-wrap">{text}</pre>
    </details>
  );
}

/** What there is to know of a model: file, shape, whether it fits, template, licence. */
export function ModelDetailDrawer({ name, onClose }: { name: string; onClose: () => void }) {
  const t = useT();
  const { data, error } = useModelDetails(name);
  const model = data?.model;
  return (
    <Dialog drawer label={name} onClose={onClose}>
      <div className="flex flex-col gap-3 p-5">
        <div className="flex items-start gap-3">
          <h2 className="grow text-lg font-semibold break-all">{name}</h2>
          <Button small look="ghost" aria-label={t('close')} onClick={onClose}>
            <Icon name="close" />
          </Button>
        </div>
        {error && <p className="text-danger">{error.message}</p>}
        {model && (
          <dl className="grid grid-cols-[auto_1fr] gap-x-4 gap-y-1 text-sm">
            {data.fit && <Row label={t('details.fit')}>{t(`details.fit.${data.fit.fits}`)}</Row>}
            {data.fit && <Row label={t('details.weights')}>{formatBytes(data.fit.weight_bytes)}</Row>}
            <Row label={t('models.family')}>{model.family}</Row>
            <Row label={t('models.parameters')}>{formatCount(model.n_params)}</Row>
            <Row label={t('models.quantization')}>{model.quantization}</Row>
            <Row label={t('details.context')}>{model.n_ctx_train}</Row>
            <Row label={t('models.size')}>{formatBytes(model.bytes)}</Row>
            <Row label={t('details.origin')}>{model.origin || model.source}</Row>
            <Row label={t('details.path')}>{model.path}</Row>
            <Row label={t('details.digest')}>{model.digest}</Row>
            {model.why_not && <Row label={t('models.unusable')}>{model.why_not}</Row>}
          </dl>
        )}
        {model && !model.why_not && <KeepAlive name={name} />}
        {model && <ModelNames name={name} />}
        <Text label={t('details.template')} text={model?.template ?? templateOf(data?.description)} />
        <Text label={t('details.system')} text={model?.system ?? null} />
        <Text label={t('details.license')} text={model?.license ?? licenceOf(data?.description)} />
        <Text label={t('details.types')} text={typesOf(data?.description)} />
        <Text label="Modelfile" text={data?.modelfile ?? null} />
        <Text
          label={t('details.metadata')}
          text={data?.description ? JSON.stringify(data.description, null, 2) : null}
        />
      </div>
    </Dialog>
  );
}
