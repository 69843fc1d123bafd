// The dashboard for Grafana, config/grafana/varpd.json: `npm run docs` writes it. Its shapes are Grafana's own, so a field of another
// version of Grafana does not compile; a test asks a real Prometheus every question of it.
import {
  AxisPlacement,
  BigValueColorMode,
  BigValueGraphMode,
  BigValueJustifyMode,
  BigValueTextMode,
  type Dashboard,
  type DataSourceRef,
  defaultDashboard,
  FieldColorModeId,
  GraphDrawStyle,
  LegendDisplayMode,
  type Panel,
  PercentChangeColorMode,
  type RowPanel,
  SortOrder,
  StackingMode,
  ThresholdsMode,
  TooltipDisplayMode,
  type VariableModel,
  VariableRefresh,
  VariableSort,
  VizOrientation,
} from '@grafana/schema';
import type { Options as StatOptions } from '@grafana/schema/dist/esm/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen';
import type {
  FieldConfig as TimeSeriesField,
  Options as TimeSeriesOptions,
} from '@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen';

import { type Plot, ROWS } from './dashboard-plots.js';

const DATASOURCE: DataSourceRef = { type: 'prometheus', uid: '${datasource}' };
/** Grafana's grid has 24 columns. */
const COLUMNS = 24;
const CURVES = { w: 8, h: 8 } as const;
const NUMBER = { w: 4, h: 4 } as const;

const targetsOf = ({ queries, as }: Plot): Record<string, unknown>[] =>
  queries.map(([expr, legendFormat], index) => ({
    refId: String.fromCharCode('A'.charCodeAt(0) + index),
    datasource: DATASOURCE,
    editorMode: 'code',
    expr,
    legendFormat,
    ...(as === 'number' ? { instant: true, range: false } : { instant: false, range: true }),
  }));

function numberPanel(plot: Plot): Panel<StatOptions> {
  return {
    type: 'stat',
    title: plot.title,
    description: plot.about,
    datasource: DATASOURCE,
    targets: targetsOf(plot),
    fieldConfig: {
      defaults: {
        unit: plot.unit,
        color: { mode: FieldColorModeId.Thresholds },
        thresholds: {
          mode: ThresholdsMode.Absolute,
          steps: [
            { color: 'green', value: null },
            { color: 'red', value: 1 },
          ],
        },
      },
      overrides: [],
    },
    options: {
      colorMode: BigValueColorMode.Background,
      graphMode: BigValueGraphMode.None,
      justifyMode: BigValueJustifyMode.Auto,
      percentChangeColorMode: PercentChangeColorMode.Standard,
      showPercentChange: false,
      textMode: BigValueTextMode.Auto,
      wideLayout: true,
      orientation: VizOrientation.Auto,
      reduceOptions: { calcs: ['lastNotNull'], fields: '', values: false },
    },
  };
}

function curvePanel(plot: Plot): Panel<TimeSeriesOptions, TimeSeriesField> {
  const isStack = plot.as === 'stack';
  return {
    type: 'timeseries',
    title: plot.title,
    description: plot.about,
    datasource: DATASOURCE,
    targets: targetsOf(plot),
    fieldConfig: {
      defaults: {
        unit: plot.unit,
        color: { mode: FieldColorModeId.PaletteClassic },
        custom: {
          drawStyle: GraphDrawStyle.Line,
          lineWidth: 1,
          fillOpacity: isStack ? 30 : 0,
          axisPlacement: AxisPlacement.Auto,
          stacking: { mode: isStack ? StackingMode.Normal : StackingMode.None, group: 'A' },
        },
      },
      overrides: [],
    },
    options: {
      legend: { displayMode: LegendDisplayMode.List, placement: 'bottom', showLegend: true, calcs: [] },
      tooltip: { mode: TooltipDisplayMode.Multi, sort: SortOrder.Descending },
    },
  };
}

/** Rows and panels from left to right, from top to bottom. */
function panels(): (Panel | RowPanel)[] {
  const all: (Panel | RowPanel)[] = [];
  let y = 0;
  for (const { title, plots } of ROWS) {
    all.push({
      type: 'row',
      id: all.length + 1,
      title,
      collapsed: false,
      gridPos: { x: 0, y, w: COLUMNS, h: 1 },
      panels: [],
    });
    y++;
    let x = 0;
    let size: { readonly w: number; readonly h: number } = CURVES;
    for (const plot of plots) {
      size = plot.as === 'number' ? NUMBER : CURVES;
      if (x + size.w > COLUMNS) [x, y] = [0, y + size.h];
      const panel = plot.as === 'number' ? numberPanel(plot) : curvePanel(plot);
      all.push({ ...(panel as Panel), id: all.length + 1, gridPos: { x, y, ...size } });
      x += size.w;
    }
    y += size.h;
  }
  return all;
}

function choice(name: string, label: string, query: string): VariableModel {
  return {
    type: 'query',
    name,
    label,
    datasource: DATASOURCE,
    query,
    refresh: VariableRefresh.onTimeRangeChanged,
    sort: VariableSort.alphabeticalAsc,
    multi: true,
    includeAll: true,
    allValue: '.*',
    current: { text: 'All', value: '$__all' },
  };
}

export function dashboard(): Dashboard {
  return {
    ...defaultDashboard,
    uid: 'varpd',
    title: 'varpd',
    description: 'Overlay networks of varpd: docs/metrics.md',
    tags: ['varpd'],
    time: { from: 'now-3h', to: 'now' },
    refresh: '30s',
    templating: {
      list: [
        { type: 'datasource', name: 'datasource', label: 'Prometheus', query: 'prometheus' },
        choice('instance', 'Host', 'label_values(up{job="varpd"}, instance)'),
        choice(
          'overlay',
          'Overlay',
          'label_values(varpd_overlay_info{job="varpd",instance=~"$instance"}, overlay)',
        ),
      ],
    },
    panels: panels(),
  };
}
