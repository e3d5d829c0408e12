// The model that a playground asks: the one chosen here, else the default one, else one in memory, else any.
import { useState } from 'react';
import { useModels } from '@/hooks/useModels';
import { useSetting } from '@/stores/preferences';

export function useModelChoice(): [string, (model: string) => void] {
  const { rows = [] } = useModels();
  const preferred = useSetting('default_model');
  const [chosen, setChosen] = useState('');
  const usable = rows.filter((row) => !row.why_not);
  const first = usable.find((row) => row.name === preferred) ?? usable.find((row) => row.loaded) ?? usable[0];
  return [chosen || (first?.name ?? ''), setChosen];
}
